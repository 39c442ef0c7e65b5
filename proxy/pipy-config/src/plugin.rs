//! Plugins: scripts that stand in the chains among the built-in stages.
//!
//! A chain names a plugin as `plugins/<name>.js`. What a service tells it is in [`HostRule::plugins`](crate::HostRule), by
//! the plugin's name. Not here: whether a script loads (`pipy-script`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Origin;

/// A script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plugin {
    /// What it is called: lower-case letters, digits, `-` and `.`.
    pub name: String,
    /// Object that it comes from, such as `Plugin/header-modifier`.
    pub origin: Origin,
    /// Its text, a `PipyJS` module.
    pub script: String,
}

impl Plugin {
    /// The stage that chains name it by.
    pub fn stage(&self) -> String {
        format!("plugins/{}.js", self.name)
    }

    /// What is wrong with it: field and words.
    pub(crate) fn faults(&self) -> Vec<(String, String)> {
        let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        let mut faults = Vec::new();
        // It becomes a path of the scripts' code base.
        if self.name.is_empty() || !self.name.chars().all(fine) {
            faults.push(("name".to_owned(), format!("{:?} is no name of a plugin", self.name)));
        }
        if self.script.trim().is_empty() {
            faults.push(("script".to_owned(), "is empty".to_owned()));
        }
        faults
    }
}
