//! `demuxHTTP` and `serveHTTP`: the server's side of HTTP in a script.

use std::rc::Rc;
use std::time::{Duration, Instant};

use pipy_filters::{HttpServer, HttpServerLimits, HttpService};
use pipy_http::HttpError;
use pipy_pipeline::{CloseReason, Cx, Event, Filter, Head};
use rquickjs::Result;

use super::handle;
use super::mux_http::codec_bytes;
use super::sub::Nested;
use crate::engine::Engine;
use crate::events::{self, ScriptEvent, script_event};
use crate::layout::{FilterDef, Reading, Scope, Target};
use crate::log;

/// What each request runs through.
#[derive(Clone)]
enum Through {
    Pipeline(Target),
    Handler(Rc<dyn FilterDef>),
}

struct Server {
    through: Through,
    limits: HttpServerLimits,
    label: String,
}

/// What the options say.
fn limits(reading: &Reading<'_, '_>, index: usize) -> Result<HttpServerLimits> {
    let minute = Duration::from_secs(60);
    let mut limits = HttpServerLimits { head: minute, idle: minute, ..HttpServerLimits::default() };
    if let Some(options) = reading.settings(index)? {
        limits.requests = options.count("maxMessages")?.and_then(|most| most.try_into().ok()).unwrap_or(0);
        limits.bytes = codec_bytes(&options)?;
    }
    Ok(limits)
}

pub(super) fn demux(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let label = reading.label.clone();
    let limits = limits(reading, 0)?;
    Ok(Rc::new(Server { through: Through::Pipeline(reading.needed()?), limits, label }))
}

pub(super) fn serve(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let label = reading.label.clone();
    let limits = limits(reading, 1)?;
    Ok(Rc::new(Server { through: Through::Handler(handle::answer(reading)?), limits, label }))
}

impl FilterDef for Server {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        Box::new(Nested::around("demuxHTTP", self.row(scope)))
    }

    fn native(&self, scope: &Scope) -> Option<Vec<Box<dyn Filter>>> {
        Some(self.row(scope))
    }
}

impl Server {
    fn row(&self, scope: &Scope) -> Vec<Box<dyn Filter>> {
        let requests =
            Requests { through: self.through.clone(), scope: scope.clone(), label: self.label.clone() };
        vec![Box::new(HttpServer::new(Rc::new(requests), self.limits, Instant::now()))]
    }
}

struct Requests {
    through: Through,
    scope: Scope,
    label: String,
}

impl HttpService for Requests {
    fn request(&self) -> Vec<Box<dyn Filter>> {
        let scope = self.scope.cloned();
        let mut row = match &self.through {
            Through::Pipeline(target) => {
                target.layout().map(|layout| layout.pipeline(&scope, Vec::new())).unwrap_or_default()
            }
            Through::Handler(handler) => vec![handler.filter(&scope)],
        };
        row.push(Box::new(Responses { engine: Rc::clone(scope.engine()), label: self.label.clone() }));
        row
    }

    fn malformed(&self, error: &HttpError) {
        log::line("WRN", &format!("{}: demuxHTTP: refused: {error}", self.label));
    }
}

/// The end of a request's row: what the script made becomes a response, and goes back.
pub(crate) struct Responses {
    pub(crate) engine: Rc<Engine>,
    pub(crate) label: String,
}

impl Filter for Responses {
    fn name(&self) -> &'static str {
        "response"
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        let event = match script_event(&event) {
            Some(ScriptEvent::Start(head, length)) => {
                let made = self.engine.response_head(head);
                match made {
                    Ok(head) => {
                        let length = events::response_length(head.status, *length);
                        Event::Start(Head::Response(head), length)
                    }
                    Err(error) => {
                        log::line("ERR", &format!("{}: the response cannot be sent: {error}", self.label));
                        Event::Close(CloseReason::Script)
                    }
                }
            }
            Some(ScriptEvent::End(..)) => Event::End(None),
            Some(ScriptEvent::Failed(_)) => Event::Close(CloseReason::Script),
            None => event,
        };
        match event {
            // These speak to the producers of this row, of which none is behind us.
            Event::Pause | Event::Resume => {}
            other => cx.back(other),
        }
    }
}
