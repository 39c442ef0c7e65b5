//! A client under test: its files, its events, and what it is answered.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pipy_delivery::{Ack, Client, Event, FailureKind, Handle, Pod, Settings};
use tempfile::TempDir;

use super::server::ControlPlane;
use super::{DEADLINE, SERVER_NAME, TOKEN};

type Answer = Box<dyn FnMut(&Event) -> Ack + Send>;

pub struct Proxy {
    pub handle: Option<Handle>,
    pub files: TempDir,
    events: Receiver<Event>,
    ack: Arc<Mutex<Answer>>,
}

impl Proxy {
    pub fn start(plane: &ControlPlane) -> Self {
        Proxy::start_with(plane, |_| {})
    }

    pub fn start_with(plane: &ControlPlane, change: impl FnOnce(&mut Settings)) -> Self {
        Proxy::start_answering(plane, change, |_| Ack::Applied)
    }

    pub fn start_answering(
        plane: &ControlPlane,
        change: impl FnOnce(&mut Settings),
        answer: impl FnMut(&Event) -> Ack + Send + 'static,
    ) -> Self {
        let files = TempDir::new().unwrap();
        std::fs::write(files.path().join("ca.pem"), plane.authority.root_pem()).unwrap();
        std::fs::write(files.path().join("token"), format!("{TOKEN}\n")).unwrap();
        let mut settings = Settings::new(
            format!("127.0.0.1:{}", plane.port),
            SERVER_NAME,
            files.path().join("ca.pem"),
            files.path().join("token"),
            Pod { namespace: "bookstore".into(), name: "bookstore-v1-abc".into(), uid: "u-1".into() },
        );
        settings.backoff_min = Duration::from_millis(5);
        settings.backoff_max = Duration::from_millis(50);
        change(&mut settings);
        let (tell, events) = channel();
        let ack: Arc<Mutex<Answer>> = Arc::new(Mutex::new(Box::new(answer)));
        let ack_of_thread = Arc::clone(&ack);
        let handle = Client::spawn(settings, move |event| {
            let answer = ack_of_thread.lock().unwrap()(&event);
            // The test may be over.
            let _ = tell.send(event);
            answer
        })
        .unwrap();
        Proxy { handle: Some(handle), files, events, ack }
    }

    /// Stops the client; says whether it has ended at once.
    pub fn stop(&mut self) -> bool {
        self.handle.take().is_some_and(Handle::stop)
    }

    pub fn answer(&self, answer: impl FnMut(&Event) -> Ack + Send + 'static) {
        *self.ack.lock().unwrap() = Box::new(answer);
    }

    /// Waits for the first event that `look` accepts, and gives those before it too.
    pub fn wait<T>(&self, what: &str, mut look: impl FnMut(&Event) -> Option<T>) -> (T, Vec<Event>) {
        let until = Instant::now() + DEADLINE;
        let mut before = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) => match look(&event) {
                    Some(found) => return (found, before),
                    None => before.push(event),
                },
                Err(error) => panic!("never happened: {what} ({error}); events: {before:#?}"),
            }
        }
    }

    /// Waits for credentials: chain, key, roots.
    pub fn credentials(&self) -> (String, String, String) {
        self.wait("credentials", |event| match event {
            Event::Credentials { chain_pem, key_pem, roots_pem, .. } => {
                Some((chain_pem.clone(), key_pem.clone(), roots_pem.clone()))
            }
            _ => None,
        })
        .0
    }

    /// Waits for a configuration: version and text.
    pub fn config(&self) -> (String, String) {
        self.wait("a configuration", |event| match event {
            Event::Config { bytes, version } => {
                Some((version.clone(), String::from_utf8(bytes.clone()).unwrap()))
            }
            _ => None,
        })
        .0
    }

    /// Waits for an outage of this kind: its reason.
    pub fn lost(&self, kind: FailureKind) -> String {
        self.wait(&format!("Lost {kind:?}"), |event| match event {
            Event::Lost { kind: found, reason, .. } if *found == kind => Some(reason.clone()),
            _ => None,
        })
        .0
    }

    pub fn restored(&self) {
        self.wait("Restored", |event| matches!(event, Event::Restored).then_some(()));
    }

    /// Waits for the end of the client's thread: the events until then.
    pub fn ended(&self) -> Vec<Event> {
        let mut before = Vec::new();
        loop {
            match self.events.recv_timeout(DEADLINE) {
                Ok(event) => before.push(event),
                Err(RecvTimeoutError::Disconnected) => return before,
                Err(RecvTimeoutError::Timeout) => panic!("the client goes on; events: {before:#?}"),
            }
        }
    }

    /// The events that have come and were not waited for.
    pub fn pending(&self) -> Vec<Event> {
        self.events.try_iter().collect()
    }
}
