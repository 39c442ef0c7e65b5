//! `.admin(prefix)`: pipelines that answer requests of the admin port, on each worker.
//!
//! In: a request as plain data, from another thread. Out: a response, by the way that came with it. INVARIANT: each request gets
//! an answer: 500 where the pipeline gives none.

use std::rc::Rc;
use std::sync::mpsc::SyncSender;

use bytes::{Bytes, BytesMut};
use pipy_http::{BodyLength, Method, RequestHead, Version};
use pipy_pipeline::{Cx, Event, Filter, Graph, Head};

use crate::events;
use crate::filters::http::Responses;
use crate::layout::{Layout, Scope};

/// A request to a script's admin pipeline.
pub struct AdminRequest {
    /// The prefix of the pipeline.
    pub prefix: String,
    /// `GET` and so on.
    pub method: String,
    /// With its query.
    pub path: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// All of it.
    pub body: Bytes,
    /// Where the answer goes; which worker it is from.
    pub reply: SyncSender<(usize, AdminResponse)>,
}

/// What a pipeline answered.
#[derive(Debug, Clone)]
pub struct AdminResponse {
    /// 200 and so on.
    pub status: u16,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// All of it.
    pub body: Bytes,
}

/// LIMIT: bytes of an answer; more than that is no page that somebody reads.
const BODY_MAX: usize = 16 << 20;

/// Has a pipeline answer.
pub(crate) fn answer(request: AdminRequest, layout: &Layout, scope: &Scope, graph: &mut Graph) {
    let worker = crate::objects::process::worker();
    let failed = |why: &str| AdminResponse { status: 400, headers: Vec::new(), body: why.to_owned().into() };
    let Ok(method) = Method::from_bytes(request.method.as_bytes()) else {
        let _ = request.reply.try_send((worker, failed("no method\n")));
        return;
    };
    let mut headers = pipy_http::Headers::new();
    for (name, value) in &request.headers {
        if matches!(name.as_str(), "connection" | "content-length" | "transfer-encoding" | "authorization") {
            continue;
        }
        // What cannot be a header was none when it came.
        let _ = headers.append(name, value);
    }
    let length = events::request_length(&method, Some(request.body.len() as u64));
    let head = RequestHead {
        method,
        target: request.path.into_bytes(),
        version: Version::Http11,
        scheme: None,
        headers,
    };
    let mut row: Vec<Box<dyn Filter>> =
        vec![Box::new(Gather { reply: Some(request.reply), worker, found: None, body: BytesMut::new() })];
    row.extend(layout.pipeline(scope, Vec::new()));
    row.push(Box::new(Responses { engine: Rc::clone(scope.engine()), label: layout.label.clone() }));
    let pipeline = graph.open_detached(row);
    graph.send(pipeline, Event::Start(Head::Request(Box::new(head)), length));
    if length != BodyLength::None && !request.body.is_empty() {
        graph.send(pipeline, Event::Data(request.body));
    }
    graph.send(pipeline, Event::End(None));
}

/// The left end: gathers the answer.
struct Gather {
    reply: Option<SyncSender<(usize, AdminResponse)>>,
    worker: usize,
    found: Option<AdminResponse>,
    body: BytesMut,
}

impl Gather {
    fn over(&mut self, cx: &mut Cx<'_>) {
        if let Some(reply) = self.reply.take() {
            let mut response = self.found.take().unwrap_or(AdminResponse {
                status: 500,
                headers: Vec::new(),
                body: Bytes::new(),
            });
            response.body = self.body.split().freeze();
            // Who has asked may have stopped waiting.
            let _ = reply.try_send((self.worker, response));
        }
        let own = cx.pipeline();
        cx.close(own);
    }
}

impl Filter for Gather {
    fn name(&self) -> &'static str {
        "admin"
    }

    fn output(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Start(Head::Response(head), _) => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let headers = head.headers.iter().map(|(name, value)| (text(name), text(value))).collect();
                self.found = Some(AdminResponse { status: head.status, headers, body: Bytes::new() });
            }
            Event::Data(data) if self.body.len() + data.len() <= BODY_MAX => {
                self.body.extend_from_slice(&data)
            }
            Event::Data(_) | Event::End(_) | Event::Close(_) => self.over(cx),
            _ => {}
        }
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        if self.reply.is_some() {
            self.over(cx);
        }
    }
}
