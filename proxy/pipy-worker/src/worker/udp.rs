//! The event loop's dealings with UDP: what comes to its sockets goes to the graph, session by session.

use pipy_pipeline::{CloseReason, Event};

use crate::app::{Accepted, App, Verdict};
use crate::datagrams::{BUDGET, Newcomer, Received};
use crate::worker::Worker;

impl<A: App> Worker<A> {
    /// Opens and closes the UDP listeners that the app wants to.
    pub(super) fn listen_for_datagrams(&mut self) {
        for (key, socket) in self.app.datagram_listeners() {
            let socket = socket.filter(|_| !self.graph.draining);
            for ended in self.datagrams.listen(key, socket, self.poll.registry()) {
                self.close(ended, false);
            }
        }
        let dropped = std::mem::take(&mut self.datagrams.dropped);
        if dropped > 0 {
            self.app.datagrams_dropped(dropped);
        }
    }

    /// Takes what waits at a UDP socket, up to the budget.
    pub(super) fn receive(&mut self, slot: usize) {
        for _ in 0..BUDGET {
            match self.datagrams.receive(slot) {
                None => return,
                Some(Received::Nothing) => {}
                Some(Received::Datagram(id, bytes)) => self.graph.from_socket(id, Event::Data(bytes)),
                Some(Received::Refused(id)) => self.fail(id, CloseReason::ConnectFailed),
                Some(Received::Lost(id)) => self.fail(id, CloseReason::Overloaded),
                Some(Received::New(newcomer)) => self.newcomer(&newcomer),
            }
            self.turn();
        }
        self.datagrams.unread.push(slot);
    }

    fn newcomer(&mut self, newcomer: &Newcomer) {
        if self.graph.draining {
            return;
        }
        let Newcomer { key, peer, local, destination, .. } = *newcomer;
        let accepted = Accepted { peer, local, destination };
        let (id, _) = match self.app.accept_datagrams(key, accepted, self.graph.now) {
            Verdict::RunTurning(filters) => self.graph.accept_turning(filters),
            Verdict::Run(filters) => self.graph.accept(filters),
            Verdict::Close | Verdict::Reset => return,
        };
        let in_its_name = self.app.masquerades(key);
        self.datagrams.begin(id, newcomer, in_its_name);
        self.graph.from_socket(id, Event::Data(newcomer.bytes.clone()));
    }
}
