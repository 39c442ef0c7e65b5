//! Notices: what the operator should know, one line each on standard error. The access log is elsewhere.

use std::time::{SystemTime, UNIX_EPOCH};

/// Something happened as it should.
pub(crate) fn info(message: &str) {
    write("info", message);
}

/// Something needs a look.
pub(crate) fn warn(message: &str) {
    write("warn", message);
}

fn write(level: &str, message: &str) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let line = message.replace(['\n', '\r'], " ");
    eprintln!("{}.{:03} {level} {line}", now.as_secs(), now.subsec_millis());
}
