//! The pages that a sidecar serves about itself: administration on loopback, metrics and readiness for the cluster.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use pipy_filters::HttpService;
use pipy_http::{BodyLength, HttpError, Method, ResponseHead};
use pipy_pipeline::{Cx, Event, Filter, Head};

/// An answer.
#[derive(Debug)]
pub struct Page {
    /// Status.
    pub status: u16,
    /// Content type.
    pub content_type: &'static str,
    /// Body.
    pub body: String,
}

impl Page {
    /// Plain text.
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Page { status, content_type: "text/plain; charset=utf-8", body: body.into() }
    }

    /// JSON.
    pub fn json(body: impl Into<String>) -> Self {
        Page { status: 200, content_type: "application/json", body: body.into() }
    }
}

/// What has pages to show. Asked on a worker's thread: must not block.
pub trait Pages: Send + Sync {
    /// Answers a request for a path, on the listener with this key.
    fn page(&self, listener: u32, method: &Method, path: &str, query: Option<&str>) -> Page;
}

pub(crate) struct PageService {
    pub(crate) listener: u32,
    pub(crate) pages: Arc<dyn Pages>,
}

impl HttpService for PageService {
    fn request(&self) -> Vec<Box<dyn Filter>> {
        vec![Box::new(PageFilter { listener: self.listener, pages: Arc::clone(&self.pages) })]
    }

    fn malformed(&self, _error: &HttpError) {}
}

impl PageService {
    pub(crate) fn service(listener: u32, pages: &Arc<dyn Pages>) -> Rc<dyn HttpService> {
        Rc::new(PageService { listener, pages: Arc::clone(pages) })
    }
}

struct PageFilter {
    listener: u32,
    pages: Arc<dyn Pages>,
}

impl Filter for PageFilter {
    fn name(&self) -> &'static str {
        "pages"
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        let Event::Start(Head::Request(request), _) = event else { return };
        let path = String::from_utf8_lossy(request.path());
        let query = request.query().map(String::from_utf8_lossy);
        let page = self.pages.page(self.listener, &request.method, &path, query.as_deref());
        let mut head = ResponseHead::new(page.status);
        // A fixed header is a valid one.
        let _ = head.headers.append("content-type", page.content_type);
        let body = Bytes::from(page.body);
        cx.back(Event::Start(Head::Response(Box::new(head)), BodyLength::Length(body.len() as u64)));
        cx.back(Event::Data(body));
        cx.back(Event::End(None));
    }
}
