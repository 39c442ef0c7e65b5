//! A way to a repository: hands on what instances ask a repository elsewhere, below `/repo`.
//!
//! For networks from which one machine reaches the repository. In: requests of instances, under the rules of an admin port.
//! INVARIANT: nothing else of the repository can be asked through it. Not here: WebSockets; logs are watched at the repository.

use std::io::Read;
use std::time::Duration;

use crate::auth::Guard;
use crate::follow::encode;
use crate::http::{Request, Response, Service};
use crate::tls::TlsFiles;

/// How long the repository may take: it holds questions for half a minute.
const PATIENCE: Duration = Duration::from_secs(45);
/// LIMIT: bytes of an answer.
const BODY_MAX: u64 = 16 << 20;

/// Instances' way to a repository.
pub struct Relay {
    guard: Guard,
    agent: ureq::Agent,
    url: String,
    token: Option<String>,
    /// Hears of what fails: a level, and text.
    say: fn(&str, &str),
}

impl Relay {
    /// To the repository at `http[s]://host:port`, for those whom the guard lets in.
    ///
    /// # Errors
    /// When the settings of TLS are no good.
    pub fn new(
        url: &str,
        guard: Guard,
        token: Option<String>,
        tls: &TlsFiles,
        say: fn(&str, &str),
    ) -> Result<Self, String> {
        let mut config = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None);
        if url.starts_with("https://") {
            config = config.tls_config(tls.client()?);
        }
        let url = url.trim_end_matches('/').to_owned();
        Ok(Relay { guard, agent: config.build().new_agent(), url, token, say })
    }

    fn ask(&self, request: &Request) -> Result<Response, ureq::Error> {
        let query = if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
        let mut asked = ureq::http::Request::builder().method(request.method.as_str()).uri(format!(
            "{}{}{query}",
            self.url,
            encode(&request.path)
        ));
        for name in ["if-none-match", "prefer", "content-type"] {
            if let Some(value) = request.header(name) {
                asked = asked.header(name, value);
            }
        }
        if let Some(token) = &self.token {
            asked = asked.header("authorization", format!("Bearer {token}"));
        }
        let answer = self.agent.run(asked.body(request.body.as_slice())?)?;
        let mut response = Response::empty(answer.status().as_u16());
        for name in ["etag", "content-type"] {
            if let Some(value) = answer.headers().get(name).and_then(|value| value.to_str().ok()) {
                response.headers.push((name, value.to_owned()));
            }
        }
        answer.into_body().into_reader().take(BODY_MAX).read_to_end(&mut response.body)?;
        Ok(response)
    }
}

impl Service for Relay {
    fn answer(&self, request: &Request) -> Response {
        if let Some(refused) = self.guard.refuse(request) {
            return refused;
        }
        if !request.path.starts_with("/repo/") {
            return Response::empty(404);
        }
        self.ask(request).unwrap_or_else(|error| {
            (self.say)("WRN", &format!("[repo] {}: {error}", self.url));
            Response::text(502, format!("{}: {error}\n", self.url))
        })
    }
}
