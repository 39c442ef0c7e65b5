//! Scripts that people wrote, with something missing, doubled, swapped or put in: each loads, or is refused in words.
//!
//! The seeds are the same each time; `PIPY_SEEDS=N` tries more, `PIPY_SEED=N` the one that failed. What a mere chance does not find is for
//! the fuzzer (`fuzz/targets/loader.rs`), which is led by coverage.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use pipy_script::{Limits, try_out};

/// A chain of numbers that a seed begins.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        // Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators" (splitmix64).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 33).unwrap_or(0) % limit.max(1)
    }
}

const PARTS: &[&str] = &[
    "(",
    ")",
    "{",
    "}",
    "[",
    "]",
    "=>",
    "$=>$",
    ".to(",
    ".pipeline('x')",
    ".listen(0)",
    ".task('1s')",
    "null",
    "undefined",
    "-1",
    "1e999",
    "'256k'",
    "``",
    "`${",
    "/(a+)+/",
    "async ",
    "await ",
    "return ",
    "throw ",
    "for(;;);",
    "new ",
    "class A{}",
    "import './x.js';",
    "export default ",
    "pipy()",
    ".export('a',{b:0})",
    ".import({b:'a'})",
    ".use(['x.js'])",
    ".chain()",
    "\u{feff}",
    "\0",
    "\u{2028}",
    "🙂",
    "\\u0061",
    "// ",
    "/*",
    "0n",
    "...",
    "?.",
    "$x",
    "var $x;",
    "__inbound",
    "this",
    ".muxHTTP()",
    ".demux()",
    ".replaceMessage(",
    ".branch(",
    ".handle(",
    ".connect(",
    ".serveHTTP(",
    ".acceptTLS(",
    ".wait(",
    ".throttleDataRate(",
    ".pipe(",
    ".encodeMQTT()",
    ".decodeResp()",
    ".exec(",
    ".swap(",
    ".repeat(",
    ".fork(",
    ".onStart(",
];

fn scripts(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            scripts(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "js") {
            found.push(path);
        }
    }
}

/// Something else at a place of a text.
fn changed(text: &str, others: &[String], dice: &mut Dice) -> String {
    let letters: Vec<char> = text.chars().collect();
    let at = dice.below(letters.len() + 1);
    let length = dice.below(40).min(letters.len() - at);
    let (before, rest) = letters.split_at(at);
    let (cut, after) = rest.split_at(length);
    let [before, cut, after]: [String; 3] = [before, cut, after].map(|part| part.iter().collect());
    match dice.below(5) {
        0 => before + &after,
        1 => format!("{before}{cut}{cut}{after}"),
        2 => format!("{before}{}{cut}{after}", PARTS[dice.below(PARTS.len())]),
        3 => format!("{before}{}{after}", PARTS[dice.below(PARTS.len())]),
        _ => {
            let other: Vec<char> = others[dice.below(others.len())].chars().collect();
            let from = dice.below(other.len() + 1);
            let piece: String = other[from..].iter().take(dice.below(80)).collect();
            format!("{before}{piece}{after}")
        }
    }
}

#[test]
fn changed_scripts_load_or_are_refused_in_words() {
    let mut paths = Vec::new();
    scripts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/pipy"), &mut paths);
    paths.sort();
    let texts: Vec<String> = paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    assert!(texts.len() > 20);
    let number = |name: &str| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    let seeds = match number("PIPY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PIPY_SEEDS").unwrap_or(150),
    };
    let (mut loaded, mut refused) = (0, 0);
    for seed in seeds {
        let mut dice = Dice(seed);
        let mut text = texts[dice.below(texts.len())].clone();
        for _ in 0..=dice.below(4) {
            text = changed(&text, &texts, &mut dice);
        }
        // Shorter than in production, for the sake of endless loops.
        let limits = Limits { time: Duration::from_millis(50), ..Limits::default() };
        // A panic names the seed, by the line before it.
        println!("PIPY_SEED={seed}");
        match try_out(&text, limits) {
            Ok(()) => loaded += 1,
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().trim().is_empty(), "PIPY_SEED={seed}: no words for\n{text}");
            }
        }
    }
    println!("{loaded} loaded, {refused} were refused");
}
