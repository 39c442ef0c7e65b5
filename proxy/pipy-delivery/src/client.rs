//! The client's thread: certificate, poll, apply, acknowledge; over and over.
//!
//! ```text
//!   ┌─► get a certificate, if one is due ──► Event::Credentials
//!   │        │ failed: go on with the old one while it lasts
//!   │        ▼
//!   │   send the acknowledgement that is owed
//!   │        ▼
//!   │      poll ──► unchanged ─────────────────────────────────────────┐
//!   │        └────► newer ──► Event::Config ──► applied: the next poll says so ──┤
//!   │                              └──► refused: an acknowledgement is owed ──┤
//!   └──────────────────────────────────────────────────────────┘
//!        any failure: Event::Lost, once; a pause, jittered and growing; from the top
//! ```
//!
//! INVARIANT: the version that is asked about next is the last one received, applied or not: a refused configuration
//! is not sent again. A refusal is owed until it is delivered or a newer one replaces it. The pause grows
//! until a poll succeeds, so that no pair of answers makes a busy loop.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;

use crate::backoff::{Backoff, random_fraction};
use crate::calls::{Acknowledgement, Calls, Polled, Said, Sent};
use crate::difference;
use crate::error::{Failure, FailureKind};
use crate::event::{Ack, Event};
use crate::identity::{Credentials, Request, certificates_of_pem, provider};
use crate::report::Reporter;
use crate::settings::Settings;
use crate::stop::{Handle, Stop};
use crate::trust;

/// LIMIT: bytes of the files that we read: a token, some roots.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// LIMIT: how far away a renewal may be put; a certificate that is to live longer is renewed all the same.
const RENEW_AFTER_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// How much earlier than asked a renewal may be, as a fraction: proxies that started together drift apart.
const RENEW_EARLIER: f64 = 0.05;
/// LIMIT: how soon after one renewal the control plane can have another; what asks for more is in a muddle.
const RENEW_APART: Duration = Duration::from_secs(2);
/// So many times in a row the control plane may hang up on us before we blame our certificate.
const HANG_UPS_MAX: u32 = 3;
/// For how long "not known yet" is normal: a Pod asks within milliseconds of its birth.
const NOT_READY_GRACE: Duration = Duration::from_secs(5);

/// Starts the client.
#[derive(Debug)]
pub struct Client;

impl Client {
    /// Starts a thread that brings credentials and configurations to `events` until it is stopped.
    ///
    /// `events` is called on that thread. What it returns for [`Event::Config`] is acknowledged, with the time that
    /// it took. If it refuses [`Event::Credentials`], the client stays with the ones before and tries again later.
    ///
    /// # Errors
    /// When the operating system gives no thread. Everything else is tried again and told through `events`.
    pub fn spawn(
        settings: Settings,
        events: impl FnMut(Event) -> Ack + Send + 'static,
    ) -> io::Result<Handle> {
        let stop = Arc::new(Stop::default());
        let stop_of_thread = Arc::clone(&stop);
        let (url, pod) = (settings.origin().unwrap_or_default(), settings.pod.clone());
        let reporter = Reporter { stop: Arc::clone(&stop), url, pod };
        let (end, ended) = mpsc::channel();
        let thread = std::thread::Builder::new().name("delivery".to_owned()).spawn(move || {
            // Goes with the thread, whichever way it ends.
            let _end: mpsc::Sender<()> = end;
            Session::new(settings, events, stop_of_thread).run();
        })?;
        Ok(Handle::new(stop, thread, ended, reporter))
    }
}

/// A certificate in use.
struct Member {
    calls: Calls,
    credentials: Credentials,
    /// Whom we believe, as the control plane said last.
    roots: Vec<CertificateDer<'static>>,
    /// What they are called together.
    trust: String,
    issued_at: Instant,
    renew_at: Instant,
    /// Seconds since the epoch.
    not_after: u64,
}

/// An outage.
struct Outage {
    began: Instant,
    since: SystemTime,
    /// The kinds that the owner knows of, each once.
    told: Vec<FailureKind>,
}

struct Session<E> {
    settings: Settings,
    events: E,
    stop: Arc<Stop>,
    provider: Arc<CryptoProvider>,
    member: Option<Member>,
    /// The last version received.
    version: String,
    /// The last version applied.
    applied: String,
    owed: Option<Acknowledgement>,
    /// The last version received, where it is so long that a difference from it would be worth while.
    held: Option<Vec<u8>>,
    outage: Option<Outage>,
    pauses: Backoff,
    renewal_pauses: Backoff,
    renewal_fails: bool,
    /// Failures in a row that may be the certificate's fault.
    hung_up: u32,
}

impl<E: FnMut(Event) -> Ack> Session<E> {
    fn new(settings: Settings, events: E, stop: Arc<Stop>) -> Self {
        let backoff = || Backoff::new(settings.backoff_min, settings.backoff_max);
        Session {
            pauses: backoff(),
            renewal_pauses: backoff(),
            settings,
            events,
            stop,
            provider: provider(),
            member: None,
            version: String::new(),
            applied: String::new(),
            owed: None,
            held: None,
            outage: None,
            renewal_fails: false,
            hung_up: 0,
        }
    }

    fn run(mut self) {
        while !self.stop.stopped() {
            let Err(failure) = self.step() else { continue };
            self.hung_up = if failure.may_want_certificate() { self.hung_up + 1 } else { 0 };
            if failure.wants_certificate() || self.hung_up >= HANG_UPS_MAX {
                self.hung_up = 0;
                // The old one goes when there is a new one: the owner's connections may still live on it.
                if let Some(member) = &mut self.member {
                    member.renew_at = Instant::now();
                }
            }
            self.lost(&failure);
            let pause = self.pauses.pause();
            if self.stop.pause(pause).is_err() {
                return;
            }
        }
    }

    /// One round: a certificate if one is due, an acknowledgement if one is owed, a poll.
    fn step(&mut self) -> Result<(), Failure> {
        let renewal = match &self.member {
            Some(member) if !due(member) => Ok(()),
            _ => self.certify(),
        };
        if let Err(failure) = renewal {
            match &mut self.member {
                // It still opens doors: go on with it, and try again in a while.
                Some(member) if wall_s() < member.not_after => {
                    self.renewal_fails = true;
                    member.renew_at = Instant::now() + self.renewal_pauses.pause();
                    self.lost(&failure);
                }
                _ => return Err(failure),
            }
        }
        self.settle()?;
        self.poll()
    }

    fn certify(&mut self) -> Result<(), Failure> {
        let ca = read(&self.settings.ca_file, "the mesh root")?;
        let mut roots = certificates_of_pem(&ca, "the mesh root").map_err(Failure::Local)?;
        // While roots are being replaced, the file may be behind what the control plane has told us.
        for root in self.member.iter().flat_map(|member| &member.roots) {
            if !roots.contains(root) {
                roots.push(root.clone());
            }
        }
        let token = read(&self.settings.token_file, "the ServiceAccount token")?;
        let token = std::str::from_utf8(&token).unwrap_or_default().trim();
        if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
            let file = self.settings.token_file.display();
            return Err(Failure::Local(format!("the ServiceAccount token in {file} is empty or malformed")));
        }

        let calls = Calls::new(&self.settings, &roots, None, &self.provider)?;
        calls.watched_by(&self.stop)?;
        let request = Request::new()?;
        let answer = calls.certify(token, &request.csr_pem, &self.settings.pod)?;
        let credentials = request.accept(&answer, &self.provider)?;

        for root in &credentials.roots {
            if !roots.contains(root) {
                roots.push(root.clone());
            }
        }
        let calls = Calls::new(&self.settings, &roots, Some(&credentials), &self.provider)?;
        if let Ack::Refused(why) = self.tell(credentials.event())? {
            return Err(Failure::Garbage(format!("the certificate is of no use to this proxy: {why}")));
        }
        let after = Duration::from_secs(credentials.renew_after_s.max(1)).min(RENEW_AFTER_MAX);
        let now = Instant::now();
        self.member = Some(Member {
            calls,
            roots: credentials.roots.clone(),
            trust: trust::id(&credentials.roots, &self.provider),
            issued_at: now,
            renew_at: now + after.mul_f64(1.0 - RENEW_EARLIER * random_fraction()),
            not_after: credentials.not_after,
            credentials,
        });
        self.renewal_pauses.reset();
        self.renewal_fails = false;
        Ok(())
    }

    /// Sends the acknowledgement that is owed.
    fn settle(&mut self) -> Result<(), Failure> {
        let (Some(owed), Some(member)) = (&self.owed, &self.member) else { return Ok(()) };
        member.calls.watched_by(&self.stop)?;
        match member.calls.acknowledge(&self.settings.pod, owed) {
            Err(failure @ Failure::Denied { status: 401 | 403, .. }) => Err(failure),
            // It would be refused again and again.
            Err(failure @ Failure::Denied { .. }) => {
                self.owed = None;
                Err(failure)
            }
            Err(failure) => Err(failure),
            Ok(()) => {
                self.owed = None;
                Ok(())
            }
        }
    }

    fn poll(&mut self) -> Result<(), Failure> {
        let Some(member) = &self.member else { return Ok(()) };
        member.calls.watched_by(&self.stop)?;
        let wait_s = match &self.outage {
            // The first answer tells that it is over; that should not take until the next change.
            Some(outage) if !outage.told.is_empty() => 1,
            _ => {
                let to_renewal = member.renew_at.saturating_duration_since(Instant::now());
                self.settings.poll_wait_s().min(to_renewal.as_secs() + 1)
            }
        };
        let asked = Instant::now();
        let said = Said {
            version: &self.version,
            applied: &self.applied,
            trust: &member.trust,
            takes_difference: self.held.is_some(),
        };
        let (polled, renew) = member.calls.poll(&self.settings.pod, said, wait_s)?;
        self.hasten(renew);
        match polled {
            Polled::Unchanged => {
                self.restored();
                // A server that does not wait would make us ask without end.
                let spacing = self.settings.backoff_min.saturating_sub(asked.elapsed());
                self.stop.pause(spacing)
            }
            Polled::Config { version, .. } if version == self.version => {
                Err(Failure::Garbage(format!("it holds version {version}, which we said we have")))
            }
            Polled::Config { version, bytes, how, begun, received } => {
                let bytes = self.whole(bytes, how)?;
                self.restored();
                self.version.clone_from(&version);
                let roots = trust::of_config(&bytes);
                match self.tell(Event::Config { bytes, version: version.clone() })? {
                    Ack::Applied => {
                        self.owed = None;
                        self.applied = version;
                        self.believe(roots)
                    }
                    Ack::Refused(reason) => {
                        let mut owed = Acknowledgement::refused(version, &reason);
                        owed.received_ms = millis(received - begun);
                        owed.applied_ms = millis(begun.elapsed());
                        self.owed = Some(owed);
                        self.settle()
                    }
                }
            }
        }
    }

    /// A configuration as it was sent, or as a difference leads to it; a long one is held for the next difference.
    fn whole(&mut self, bytes: Vec<u8>, how: Sent) -> Result<Vec<u8>, Failure> {
        // Gone until all is well: what is asked for next is then the whole.
        let held = self.held.take();
        let bytes = match (how, held) {
            (Sent::Difference, Some(held)) => difference::carry_out(&held, &self.version, &bytes)
                .map_err(|why| Failure::Garbage(format!("a difference does not fit: {why}")))?,
            _ => bytes,
        };
        if bytes.len() > difference::WHOLE_BYTES_MAX {
            self.held = Some(bytes.clone());
        }
        Ok(bytes)
    }

    /// Renews the certificate before its time, because the control plane asks for it: within so many seconds.
    fn hasten(&mut self, within_s: Option<u64>) {
        let (Some(within_s), Some(member)) = (within_s, &mut self.member) else { return };
        let pause = Duration::from_secs(within_s).min(RENEW_AFTER_MAX).mul_f64(random_fraction());
        let at = (Instant::now() + pause).max(member.issued_at + RENEW_APART);
        member.renew_at = member.renew_at.min(at);
    }

    /// Believes the roots of a configuration that is in effect, here as in the owner's connections.
    fn believe(&mut self, roots: Vec<CertificateDer<'static>>) -> Result<(), Failure> {
        let Some(member) = &mut self.member else { return Ok(()) };
        let trust = trust::id(&roots, &self.provider);
        if roots.is_empty() || trust == member.trust {
            return Ok(());
        }
        member.calls = Calls::new(&self.settings, &roots, Some(&member.credentials), &self.provider)?;
        (member.roots, member.trust) = (roots, trust);
        Ok(())
    }

    /// Hands the owner something new; nothing more once we are to stop.
    fn tell(&mut self, event: Event) -> Result<Ack, Failure> {
        if self.stop.stopped() { Err(Failure::Stopped) } else { Ok((self.events)(event)) }
    }

    fn lost(&mut self, failure: &Failure) {
        // What fails because we stop is nobody's fault.
        if self.stop.stopped() {
            return;
        }
        let kind = failure.kind();
        let outage = self.outage.get_or_insert_with(|| Outage {
            began: Instant::now(),
            since: SystemTime::now(),
            told: Vec::new(),
        });
        let normal = kind == FailureKind::NotReady && outage.told.is_empty();
        if outage.told.contains(&kind) || (normal && outage.began.elapsed() < NOT_READY_GRACE) {
            return;
        }
        if !outage.told.is_empty() {
            // Something has moved, such as from "nobody there" to "not ready": it is worth a closer look.
            self.pauses.reset();
        }
        outage.told.push(kind);
        let event = Event::Lost { kind, reason: failure.to_string(), since: outage.since };
        (self.events)(event);
    }

    fn restored(&mut self) {
        self.pauses.reset();
        self.hung_up = 0;
        // A poll that works while renewals fail is no recovery yet.
        if self.renewal_fails {
            return;
        }
        if self.outage.take().is_some_and(|outage| !outage.told.is_empty()) {
            (self.events)(Event::Restored);
        }
    }
}

/// By either clock: the monotonic one stands still while a laptop sleeps, the other may be set.
fn due(member: &Member) -> bool {
    Instant::now() >= member.renew_at || wall_s() >= member.not_after
}

fn wall_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn read(path: &Path, what: &str) -> Result<Vec<u8>, Failure> {
    let fault =
        |error: String| Failure::Local(format!("cannot read {what} from {}: {error}", path.display()));
    let file = File::open(path).map_err(|error| fault(error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| fault(error.to_string()))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(fault(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}
