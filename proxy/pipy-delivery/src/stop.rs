//! Ending the client's thread from outside, whatever it is doing.
//!
//! Three things can hold the thread: a pause (ended through the condition variable), a request in flight (ended by
//! shutting its sockets down), and name resolution or connecting (bounded by their time limits; not waited for
//! longer than [`STOP_WAIT`], the thread then ends by itself a little later). The owner's callback is waited for
//! like the latter.
//!
//! INVARIANT: after a stop no request begins; [`Stop::watch`] refuses it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ureq::Agent;

use crate::error::Failure;
use crate::report::Reporter;

/// How long [`Handle::stop`] waits for the thread.
pub const STOP_WAIT: Duration = Duration::from_secs(1);

/// Ends the client. Dropping it ends the client too, without waiting for it.
#[derive(Debug)]
pub struct Handle {
    stop: Arc<Stop>,
    thread: JoinHandle<()>,
    ended: mpsc::Receiver<()>,
    reporter: Reporter,
}

impl Handle {
    pub(crate) fn new(
        stop: Arc<Stop>,
        thread: JoinHandle<()>,
        ended: mpsc::Receiver<()>,
        reporter: Reporter,
    ) -> Self {
        Handle { stop, thread, ended, reporter }
    }

    /// What sends reports with the client's identity.
    pub fn reporter(&self) -> Reporter {
        self.reporter.clone()
    }

    /// Ends the client. Says whether its thread has ended within [`STOP_WAIT`]; if not, it will, without another
    /// event than the one that it may be in.
    pub fn stop(self) -> bool {
        self.stop.stop();
        // The thread's end of the channel goes with the thread, also when the owner's callback panicked.
        !matches!(self.ended.recv_timeout(STOP_WAIT), Err(mpsc::RecvTimeoutError::Timeout))
    }

    /// Whether the thread runs.
    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

#[derive(Debug, Default)]
pub(crate) struct Stop {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stopped: bool,
    /// Whose requests may be in flight.
    agent: Option<Agent>,
}

impl Stop {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stop(&self) {
        let agent = {
            let mut state = self.lock();
            state.stopped = true;
            state.agent.take()
        };
        self.changed.notify_all();
        if let Some(agent) = agent {
            agent.shutdown();
        }
    }

    /// Who speaks to the control plane now, if anyone does.
    pub(crate) fn agent(&self) -> Option<Agent> {
        let state = self.lock();
        state.agent.clone().filter(|_| !state.stopped)
    }

    pub(crate) fn stopped(&self) -> bool {
        self.lock().stopped
    }

    /// From now on, a stop ends this agent's requests.
    pub(crate) fn watch(&self, agent: &Agent) -> Result<(), Failure> {
        let mut state = self.lock();
        if state.stopped {
            return Err(Failure::Stopped);
        }
        state.agent = Some(agent.clone());
        Ok(())
    }

    /// Waits; ends early with an error when stopped.
    pub(crate) fn pause(&self, duration: Duration) -> Result<(), Failure> {
        let until = Instant::now() + duration;
        let mut state = self.lock();
        loop {
            if state.stopped {
                return Err(Failure::Stopped);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
