//! The command line.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;

use crate::repo::{Link, RepoOptions};
use crate::script::{Code, ScriptOptions};

/// What the command line asks for.
pub(crate) enum Command {
    /// Print this.
    Print(String),
    /// Say whether a configuration is valid.
    Check(PathBuf),
    /// Say whether a plugin of the mesh loads: its name and its file.
    CheckPlugin(String, PathBuf),
    /// Be a sidecar.
    Sidecar(Box<SidecarOptions>),
    /// Run a script.
    Script(ScriptOptions),
    /// Serve a repository of scripts.
    Repo(RepoOptions),
    /// Serve one, and run a codebase of it.
    RepoAndScript(RepoOptions, Box<ScriptOptions>),
}

/// How a sidecar runs.
pub(crate) struct SidecarOptions {
    pub(crate) source: Source,
    pub(crate) inbound: SocketAddr,
    pub(crate) outbound: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) metrics: SocketAddr,
    pub(crate) liveness: SocketAddr,
    pub(crate) readiness: SocketAddr,
    pub(crate) startup: SocketAddr,
    pub(crate) tcp_probes: SocketAddr,
    pub(crate) workers: usize,
    pub(crate) mark: Option<u32>,
    /// Whether UDP that the firewall captures is carried.
    pub(crate) udp: bool,
}

/// Where configuration and credentials come from.
pub(crate) enum Source {
    /// From files.
    Files { config: PathBuf, credentials: Option<CredentialFiles> },
    /// From the control plane.
    ControlPlane { url: String, server_name: Option<String>, ca: PathBuf, token: PathBuf },
}

pub(crate) struct CredentialFiles {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) roots: PathBuf,
}

const HELP: &str = include_str!("help.txt");

/// Reads the command line. Words that other releases wrote with one dash (`-help`) are known too.
pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Command, lexopt::Error> {
    const LONG: [&str; 5] = ["-help", "-version", "-eval", "-file", "-args"];
    let mut rest = false;
    let words = words.into_iter().map(|word| {
        let known = !rest && LONG.iter().any(|long| word == **long);
        rest |= word == "--" || word == "--args" || word == "-args";
        if known { OsString::from(format!("-{}", word.to_string_lossy())) } else { word }
    });
    let mut parser = lexopt::Parser::from_args(words.collect::<Vec<_>>());
    let mut given = Given::default();
    let mut asked = false;
    loop {
        match parser.next()? {
            None => break,
            Some(Long("list-filters")) => return Ok(Command::Print(filters())),
            Some(Long("help") | Short('h')) => return Ok(Command::Print(HELP.into())),
            Some(Long("version") | Short('v' | 'V')) => {
                return Ok(Command::Print(format!("pipy {}\n", env!("CARGO_PKG_VERSION"))));
            }
            Some(Value(command)) if command == "check" && !asked => return checked(parser),
            Some(Value(command)) if command == "sidecar" && !asked => return sidecar(parser),
            Some(Long("args")) => given.rest(&mut parser)?,
            // The first word is the script, those behind it are for the script.
            Some(Value(word)) if given.script.is_none() => given.script = Some(word),
            Some(Value(word)) => given.arguments.push(word.to_string_lossy().into_owned()),
            Some(Long(option)) => {
                let option = option.to_owned();
                given.option(&option, &mut parser)?;
            }
            Some(Short('e')) => given.text = true,
            Some(Short('f')) => given.file = true,
            Some(Short(other)) => return Err(format!("unknown option: -{other}").into()),
        }
        asked = true;
    }
    given.command()
}

/// What was given for running a script or serving a repository.
#[derive(Default)]
struct Given {
    script: Option<OsString>,
    arguments: Vec<String>,
    text: bool,
    file: bool,
    check: bool,
    force_start: bool,
    no_reload: bool,
    threads: Option<usize>,
    admin: Option<SocketAddr>,
    uuid: Option<String>,
    name: Option<String>,
    link: Link,
    log_file: Option<PathBuf>,
    log_size: Option<u64>,
    log_count: Option<usize>,
    log_interval: Option<Duration>,
    init_code: Option<String>,
}

impl Given {
    /// What is for the script, up to `--pipy-options`.
    fn rest(&mut self, parser: &mut lexopt::Parser) -> Result<(), lexopt::Error> {
        let mut raw = parser.raw_args()?;
        for word in raw.by_ref() {
            if word == "--pipy-options" {
                break;
            }
            self.arguments.push(word.to_string_lossy().into_owned());
        }
        Ok(())
    }

    fn option(&mut self, option: &str, parser: &mut lexopt::Parser) -> Result<(), lexopt::Error> {
        match option {
            "eval" => self.text = true,
            "file" => self.file = true,
            "check" => self.check = true,
            "force-start" => self.force_start = true,
            "no-reload" => self.no_reload = true,
            // Threads always share their ports, graphs are not printed, and a repository is told what it may know.
            "reuse-port" | "no-graph" | "no-status" | "no-metrics" | "trace-objects" | "pipy-options" => {}
            "threads" => self.threads = Some(parser.value()?.parse_with(thread_count)?),
            "admin-port" => self.admin = Some(parser.value()?.parse_with(admin_address)?),
            "admin-port-off" => self.admin = None,
            "instance-uuid" => self.uuid = Some(parser.value()?.string()?),
            "instance-name" => self.name = Some(parser.value()?.string()?),
            "log-history-limit" => pipy_script::keep_history(parser.value()?.parse_with(size)?),
            "log-file" => self.log_file = Some(parser.value()?.into()),
            "log-file-max-size" => self.log_size = Some(parser.value()?.parse_with(size)? as u64),
            "log-file-max-count" => self.log_count = Some(parser.value()?.parse()?),
            "log-local" => {
                let place = parser.value()?.string()?;
                if !pipy_script::log::set_place(&place) {
                    return Err(
                        format!("unknown place of the log: {place}; stdout, stderr and null are").into()
                    );
                }
            }
            "log-file-rotate-interval" => {
                self.log_interval = Some(parser.value()?.parse_with(interval)?);
            }
            "init-code" => self.init_code = Some(parser.value()?.string()?),
            "openssl-engine" => {
                return Err("--openssl-engine: there is no OpenSSL here; keys are files (PEM)".into());
            }
            // Nothing of the log goes anywhere else.
            "log-local-only" => {}
            "log-level" => {
                let level = parser.value()?.string()?;
                let known = level.split(':').next().unwrap_or_default();
                if !pipy_script::log::set_level(known) {
                    return Err(format!("unknown log level: {level}; error, warn, info and debug are").into());
                }
            }
            option if Link::knows(option) => self.link.option(option, parser)?,
            other => {
                let near = OPTIONS
                    .iter()
                    .map(|known| (strsim::damerau_levenshtein(known, other), known))
                    .min()
                    .filter(|(distance, _)| *distance <= 2)
                    .map(|(_, known)| format!("; did you mean --{known}?"));
                return Err(format!("unknown option: --{other}{}", near.unwrap_or_default()).into());
            }
        }
        Ok(())
    }

    fn command(mut self) -> Result<Command, lexopt::Error> {
        if let Some(path) = &self.log_file {
            let (size, count) = (self.log_size.unwrap_or(u64::MAX), self.log_count.unwrap_or(1));
            pipy_script::log::set_file(path, size, count, self.log_interval)
                .map_err(|error| format!("--log-file: {}: {error}", path.display()))?;
        }
        let address = self.admin.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 6060)));
        let (text, file) = (self.text, self.file);
        let Some(script) = self.script.take() else {
            if text || file || self.check {
                return Err("missing script".into());
            }
            return Ok(self.repository(None, address));
        };
        let given = script.to_string_lossy().into_owned();
        let path = PathBuf::from(&script);
        // What is no file is a script, unless it looks like the name of one.
        let inline = text || (!file && !path.exists() && given.contains(['(', ' ', '\n', '+']));
        let remote = given.starts_with("http://") || given.starts_with("https://");
        if given.starts_with("repo://") && !file {
            let said = format!(
                "{given}: there are no built-in codebases; http://HOST:PORT/repo/NAME is one of a repository"
            );
            return Err(said.into());
        }
        // Without a codebase it is the repository itself.
        let bare = given.split_once("://").is_some_and(|(_, rest)| !rest.trim_end_matches('/').contains('/'));
        if remote && bare && !file && !text {
            let upstream = Some(given);
            return Ok(Command::Repo(RepoOptions { folder: None, address, link: self.link, upstream }));
        }
        if self.init_code.is_some() {
            return Err("--init-code is for a repository: pipy --init-code=NAME [FOLDER]".into());
        }
        let code = if inline {
            Code::Text(given)
        } else if remote && !file {
            Code::Remote { url: given, uuid: self.uuid, name: self.name, snapshot: None }
        } else if path.is_dir() && !file {
            if self.check {
                return Err(
                    format!("--check is about a script: {given} is a folder; give its main file").into()
                );
            }
            return Ok(self.repository(Some(path), address));
        } else {
            Code::File(path)
        };
        Ok(Command::Script(ScriptOptions {
            code,
            arguments: self.arguments,
            threads: self.threads.unwrap_or(1),
            check: self.check,
            force_start: self.force_start,
            no_reload: self.no_reload,
            admin: self.admin,
            link: self.link,
        }))
    }
}

impl Given {
    /// A repository, and what of it runs.
    fn repository(self, folder: Option<PathBuf>, address: SocketAddr) -> Command {
        let options = RepoOptions { folder, address, link: self.link.clone(), upstream: None };
        let Some(name) = self.init_code else { return Command::Repo(options) };
        let scheme = if self.link.served.certificate.is_some() { "https" } else { "http" };
        let own = match address.ip() {
            ip if !ip.is_unspecified() => address,
            std::net::IpAddr::V4(_) => SocketAddr::from(([127, 0, 0, 1], address.port())),
            std::net::IpAddr::V6(_) => SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, address.port())),
        };
        let url = format!("{scheme}://{own}/repo/{}", name.trim_matches('/'));
        let script = ScriptOptions {
            code: Code::Remote { url, uuid: self.uuid, name: self.name, snapshot: None },
            arguments: self.arguments,
            threads: self.threads.unwrap_or(1),
            check: false,
            force_start: self.force_start,
            no_reload: self.no_reload,
            admin: None,
            link: self.link,
        };
        Command::RepoAndScript(options, Box::new(script))
    }
}

/// Options of scripts, for whoever mistypes one.
const OPTIONS: &[&str] = &[
    "eval",
    "file",
    "args",
    "check",
    "force-start",
    "no-reload",
    "reuse-port",
    "no-graph",
    "no-status",
    "no-metrics",
    "threads",
    "admin-port",
    "admin-port-off",
    "instance-uuid",
    "instance-name",
    "log-level",
    "log-file",
    "log-local",
    "log-file-max-size",
    "log-file-max-count",
    "log-file-rotate-interval",
    "log-local-only",
    "log-history-limit",
    "init-repo",
    "init-code",
    "admin-gui",
    "admin-log-file",
    "admin-tls-cert",
    "admin-tls-key",
    "admin-tls-trusted",
    "tls-cert",
    "tls-key",
    "tls-trusted",
    "trace-objects",
    "pipy-options",
    "list-filters",
    "help",
    "version",
];

/// What `pipy check` is asked about.
fn checked(mut parser: lexopt::Parser) -> Result<Command, lexopt::Error> {
    let (mut plugin, mut file) = (None, None);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("plugin") => plugin = Some(parser.value()?.string()?),
            Value(given) if file.is_none() => file = Some(PathBuf::from(given)),
            other => return Err(other.unexpected()),
        }
    }
    let file = file.ok_or("missing file")?;
    Ok(plugin.map_or(Command::Check(file.clone()), |name| Command::CheckPlugin(name, file)))
}

/// `6060`, `127.0.0.1:6060` or `[::]:6060`; a port alone is one of this machine's own.
fn admin_address(text: &str) -> Result<SocketAddr, String> {
    let bad = || format!("{text:?} is no address: [IP:]PORT, with a port up to 65535");
    let own = |port| SocketAddr::from(([127, 0, 0, 1], port));
    text.parse::<u16>().map(own).or_else(|_| text.parse().map_err(|_| bad()))
}

/// `65536`, `64k`, `1m` or `1g`.
fn size(text: &str) -> Result<usize, String> {
    let bad = || format!("{text:?} is no size: 65536, 64k, 1m, 1g");
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        _ => return Err(bad()),
    };
    let number: usize = digits.parse().map_err(|_| bad())?;
    number.checked_mul(1 << shift).ok_or_else(bad)
}

/// `90`, `15m`, `24h` or `1d`.
fn interval(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is no time: 90s, 15m, 24h, 1d");
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let seconds: u64 = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(bad()),
    };
    let number: u64 = digits.parse().map_err(|_| bad())?;
    number.checked_mul(seconds).filter(|all| *all > 0).map(Duration::from_secs).ok_or_else(bad)
}

/// A number of threads, or as many as there are cores.
fn thread_count(text: &str) -> Result<usize, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    match text.parse::<usize>() {
        _ if text == "max" => Ok(cores),
        Ok(count) if (1..=cores.max(WORKERS_MIN)).contains(&count) => Ok(count),
        Ok(count) if count > 0 => {
            Err(format!("number of threads exceeds the maximum {}: {count}", cores.max(WORKERS_MIN)))
        }
        _ => Err(format!("--threads expects a number, from 1, or max: {text:?}")),
    }
}

/// LIMIT: so many threads may be asked for on any machine: a small one is where a larger one is tried out.
const WORKERS_MIN: usize = 8;

fn filters() -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for entry in pipy_script::TABLE {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{:<22} {}", entry.name, entry.help);
    }
    text
}

fn sidecar(mut parser: lexopt::Parser) -> Result<Command, lexopt::Error> {
    let (mut config, mut chain, mut key, mut roots) = (None, None, None, None);
    let (mut url, mut server_name, mut ca, mut token) = (None, None, None, None);
    let mut inbound = SocketAddr::from(([0, 0, 0, 0], 15003));
    let mut outbound = SocketAddr::from(([0, 0, 0, 0], 15001));
    let mut admin = SocketAddr::from(([127, 0, 0, 1], 15000));
    let mut metrics = SocketAddr::from(([0, 0, 0, 0], 15010));
    let probes = |port| SocketAddr::from(([0, 0, 0, 0], port));
    let (mut liveness, mut readiness) = (probes(15901), probes(15902));
    let (mut startup, mut tcp_probes) = (probes(15903), probes(15904));
    let (mut workers, mut mark, mut udp) = (1, None, false);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("config") => config = Some(PathBuf::from(parser.value()?)),
            Long("cert") => chain = Some(PathBuf::from(parser.value()?)),
            Long("key") => key = Some(PathBuf::from(parser.value()?)),
            Long("roots") => roots = Some(PathBuf::from(parser.value()?)),
            Long("control-plane") => url = Some(parser.value()?.string()?),
            Long("server-name") => server_name = Some(parser.value()?.string()?),
            Long("ca") => ca = Some(PathBuf::from(parser.value()?)),
            Long("token") => token = Some(PathBuf::from(parser.value()?)),
            Long("inbound") => inbound = parser.value()?.parse()?,
            Long("outbound") => outbound = parser.value()?.parse()?,
            Long("admin") => admin = parser.value()?.parse()?,
            Long("metrics") => metrics = parser.value()?.parse()?,
            Long("liveness") => liveness = parser.value()?.parse()?,
            Long("readiness") => readiness = parser.value()?.parse()?,
            Long("startup") => startup = parser.value()?.parse()?,
            Long("tcp-probes") => tcp_probes = parser.value()?.parse()?,
            Long("workers") => workers = parser.value()?.parse_with(worker_count)?,
            Long("mark") => mark = Some(parser.value()?.parse_with(number)?),
            Long("udp") => udp = true,
            Long("help") => return Ok(Command::Print(HELP.into())),
            other => return Err(other.unexpected()),
        }
    }
    let source = match (url, config) {
        (Some(url), None) => Source::ControlPlane {
            url,
            server_name,
            ca: ca.ok_or("--control-plane needs --ca")?,
            token: token.ok_or("--control-plane needs --token")?,
        },
        (None, Some(config)) => {
            let credentials = match (chain, key, roots) {
                (Some(chain), Some(key), Some(roots)) => Some(CredentialFiles { chain, key, roots }),
                (None, None, None) => None,
                _ => return Err("--cert, --key and --roots go together".into()),
            };
            Source::Files { config, credentials }
        }
        _ => return Err("either --control-plane or --config is needed".into()),
    };
    let options = SidecarOptions {
        source,
        inbound,
        outbound,
        admin,
        metrics,
        liveness,
        readiness,
        startup,
        tcp_probes,
        workers,
        mark,
        udp,
    };
    Ok(Command::Sidecar(Box::new(options)))
}

/// LIMIT: threads; more than any machine that this runs on has cores is a typing error.
const WORKERS_MAX: usize = 256;

fn worker_count(text: &str) -> Result<usize, String> {
    let count = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if (1..=WORKERS_MAX).contains(&count) {
        Ok(count)
    } else {
        Err(format!("{count} is not in 1..={WORKERS_MAX}"))
    }
}

/// A number, decimal or hexadecimal with `0x`.
fn number(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("{text:?} is no number"))
}
