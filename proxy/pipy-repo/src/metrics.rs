//! Pages of metrics of many instances, as one: each sample gets its `instance`, families stay together.
//!
//! INVARIANT: what comes out is a page in the text format of Prometheus, whatever instances report: lines that are none are left out.

use std::collections::BTreeMap;
use std::fmt::Write;

/// A name and labels as a page has them.
fn sample(line: &str) -> Option<(&str, &str, &str)> {
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))?;
    let (name, rest) = line.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (labels, value) = match rest.strip_prefix('{') {
        None => ("", rest),
        Some(rest) => rest.split_at(closing(rest)?),
    };
    let value = value.trim_start_matches('}').trim();
    let number = value.split_ascii_whitespace().next()?;
    (number.parse::<f64>().is_ok() || matches!(number, "+Inf" | "-Inf" | "NaN"))
        .then_some((name, labels, value))
}

/// Where the labels end: at a brace outside of quotes.
fn closing(labels: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, letter) in labels.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            '}' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// The family that a sample is of.
fn family<'n>(name: &'n str, types: &BTreeMap<String, String>) -> &'n str {
    for end in ["_bucket", "_sum", "_count"] {
        if let Some(base) = name.strip_suffix(end)
            && types.get(base).is_some_and(|kind| kind == "histogram" || kind == "summary")
        {
            return base;
        }
    }
    name
}

/// The pages, each with the name of its instance, as one.
pub(crate) fn merge<'p>(pages: impl Iterator<Item = (String, &'p str)>) -> String {
    let mut types: BTreeMap<String, String> = BTreeMap::new();
    let mut samples: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (instance, page) in pages {
        let instance = instance.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                if let Some((name, kind)) = rest.split_once(' ') {
                    types.entry(name.to_owned()).or_insert_with(|| kind.to_owned());
                }
                continue;
            }
            let Some((name, labels, value)) = sample(line) else { continue };
            let comma = if labels.is_empty() { "" } else { "," };
            let all = samples.entry(family(name, &types).to_owned()).or_default();
            all.push(format!("{name}{{instance=\"{instance}\"{comma}{labels}}} {value}"));
        }
    }
    let mut out = String::new();
    for (family, lines) in samples {
        // Writing to a string cannot fail.
        if let Some(kind) = types.get(&family) {
            let _ = writeln!(out, "# TYPE {family} {kind}");
        }
        for line in lines {
            let _ = writeln!(out, "{line}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_stay_together_and_samples_say_whose_they_are() {
        let one = "# TYPE hits counter\nhits{path=\"/a}\\\"\"} 3\n# TYPE t histogram\nt_bucket{le=\"+Inf\"} 1\nt_count 1\nnonsense\n1x 2\n";
        let two = "# TYPE hits counter\nhits 4\n";
        let merged = merge([("a\"b".to_owned(), one), ("c".to_owned(), two)].into_iter());
        let expected = "# TYPE hits counter\n\
            hits{instance=\"a\\\"b\",path=\"/a}\\\"\"} 3\n\
            hits{instance=\"c\"} 4\n\
            # TYPE t histogram\n\
            t_bucket{instance=\"a\\\"b\",le=\"+Inf\"} 1\n\
            t_count{instance=\"a\\\"b\"} 1\n";
        assert_eq!(merged, expected);
    }
}
