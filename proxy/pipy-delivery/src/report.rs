//! What a proxy tells the control plane of itself, besides polls and acknowledgements: `POST /v1/reports`.
//!
//! Called on the owner's threads; it uses the identity that the client's thread polls with. INVARIANT: a report that does not
//! arrive changes nothing; the owner may try again. Not here: what there is to report.

use std::sync::Arc;

use serde::Serialize;

use crate::settings::Pod;
use crate::stop::Stop;

/// Sends reports. It may outlive the client; then nothing is sent any more.
#[derive(Debug, Clone)]
pub struct Reporter {
    pub(crate) stop: Arc<Stop>,
    pub(crate) url: String,
    pub(crate) pod: Pod,
}

impl Reporter {
    /// Sends a report; returns when it has arrived.
    ///
    /// # Errors
    /// When the client has no certificate yet, has ended, or the control plane does not take the report; in words.
    pub fn send(&self, report: &impl Serialize) -> Result<(), String> {
        let Some(agent) = self.stop.agent() else {
            return Err("there is no certificate to speak with".into());
        };
        let body = serde_json::to_vec(report).map_err(|error| error.to_string())?;
        let pod = format!("{}/{}/{}", self.pod.namespace, self.pod.name, self.pod.uid);
        let sent = agent
            .post(format!("{}/v1/reports", self.url))
            .header("fsm-pod", pod)
            .content_type("application/json")
            .send(&body[..]);
        match sent {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("the control plane answers {}", answer.status())),
            Err(error) => Err(error.to_string()),
        }
    }
}
