//! How long a script may take to load: it is told when that takes long, and given up when it takes too long.
//!
//! A callback is stopped by the engine when its time is over; builtin functions that walk a list of billions of places do not ask
//! for the time. In: what is to be done. Out: what came of it, unless it never comes. INVARIANT: what ends in time is not touched.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// LIMIT: for loading a script. Scripts that wait for programs while they load take seconds; nothing takes a minute.
pub(crate) const PATIENCE: Patience =
    Patience { told: Duration::from_secs(10), most: Duration::from_secs(60) };

/// When it is told, and when it is given up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    told: Duration,
    most: Duration,
}

impl Patience {
    /// Does something, and calls back from another thread where it takes long: with what there is to say, and whether it is over.
    pub(crate) fn with<T>(self, what: impl FnOnce() -> T, late: impl Fn(&str, bool) + Send + 'static) -> T {
        let (done, over) = mpsc::channel::<()>();
        // Without a thread for it nobody is told.
        let _ = std::thread::Builder::new().name("patience".into()).spawn(move || {
            for (after, so_far, given_up) in
                [(self.told, self.told, false), (self.most.saturating_sub(self.told), self.most, true)]
            {
                if over.recv_timeout(after) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                let seconds = so_far.as_secs_f32();
                late(
                    &format!("the script has been loading for {seconds} s and has not come to an end"),
                    given_up,
                );
            }
        });
        let result = what();
        drop(done);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_is_told_and_then_given_up() {
        let (said, heard) = mpsc::channel();
        let short = Patience { told: Duration::from_millis(5), most: Duration::from_millis(10) };
        let late = move |what: &str, over: bool| drop(said.send((what.to_owned(), over)));
        let patient = Duration::from_secs(60);
        let (first, second) =
            short.with(|| (heard.recv_timeout(patient).ok(), heard.recv_timeout(patient).ok()), late);
        let text =
            |so_far: &str| format!("the script has been loading for {so_far} s and has not come to an end");
        assert_eq!(first, Some((text("0.005"), false)));
        assert_eq!(second, Some((text("0.01"), true)));
    }

    #[test]
    fn what_ends_in_time_is_left_alone() {
        let (said, heard) = mpsc::channel();
        let long = Patience { told: Duration::from_secs(600), most: Duration::from_secs(600) };
        assert_eq!(
            long.with(
                || 7,
                move |_, over| {
                    let _ = said.send(over);
                }
            ),
            7
        );
        // The other thread has let go of it without a word.
        assert!(
            heard
                .recv_timeout(Duration::from_secs(60))
                .is_err_and(|why| why == RecvTimeoutError::Disconnected)
        );
    }
}
