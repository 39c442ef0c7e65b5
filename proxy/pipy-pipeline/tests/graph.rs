//! The graph's promises: order, ends, destruction at any moment, timers, and that nothing is left behind.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use pipy_pipeline::{CloseReason, ConnectTo, Cx, Dir, Event, Filter, Slot, TimerId};
use pipy_testkit::{Notes, Probe, World};

fn data(text: &'static str) -> Event {
    Event::Data(Bytes::from_static(text.as_bytes()))
}

#[test]
fn input_goes_right_and_output_comes_back() {
    let (mut world, notes) = (World::default(), Notes::default());
    let echo = Probe::answering("echo", &notes, |cx, event| cx.back(event));
    let (socket, _) = world.accept(vec![Probe::passing("first", &notes), echo]);
    assert_eq!(notes.take(), ["first starts", "echo starts"]);
    world.say(socket, "hello");
    assert_eq!(notes.take(), ["first > data hello", "echo > data hello", "first < data hello"]);
    assert_eq!(world.heard(socket), "hello");
}

#[test]
fn events_are_delivered_in_the_order_of_sending() {
    let (mut world, notes) = (World::default(), Notes::default());
    let burst = Probe::answering("burst", &notes, |cx, _| {
        cx.back(data("1"));
        cx.forward(data("a"));
        cx.back(data("2"));
        cx.forward(data("b"));
    });
    let (socket, _) = world.accept(vec![burst, Probe::passing("right", &notes)]);
    notes.take();
    world.say(socket, "go");
    assert_eq!(notes.take(), ["burst > data go", "right > data a", "right > data b"]);
    assert_eq!(world.heard(socket), "12");
}

/// Has nothing to do with events of these directions, and says so.
struct Bystander {
    notes: Notes,
    dirs: Vec<Dir>,
}

impl Filter for Bystander {
    fn name(&self) -> &'static str {
        "bystander"
    }

    fn ignores(&self, dir: Dir) -> bool {
        self.dirs.contains(&dir)
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        self.notes.add("bystander >");
        cx.forward(event);
    }

    fn output(&mut self, cx: &mut Cx<'_>, event: Event) {
        self.notes.add("bystander <");
        cx.back(event);
    }
}

#[test]
fn events_go_past_those_who_ignore_them() {
    let cases: [(&[Dir], &[&str]); 4] = [
        (&[], &["bystander >", "echo > data x", "bystander <"]),
        (&[Dir::Input], &["echo > data x", "bystander <"]),
        (&[Dir::Output], &["bystander >", "echo > data x"]),
        (&[Dir::Input, Dir::Output], &["echo > data x"]),
    ];
    // So many before it, between it and the echo, and behind the echo, that ignore everything; also more than are kept track of.
    for around in [0, 1, 3, 40] {
        for (dirs, expected) in cases {
            let (mut world, notes) = (World::default(), Notes::default());
            let ignoring = |_| -> Box<dyn Filter> {
                Box::new(Bystander { notes: Notes::default(), dirs: vec![Dir::Input, Dir::Output] })
            };
            let mut filters: Vec<Box<dyn Filter>> = (0..around).map(ignoring).collect();
            filters.push(Box::new(Bystander { notes: notes.clone(), dirs: dirs.to_vec() }));
            filters.extend((0..around).map(ignoring));
            filters.push(Probe::answering("echo", &notes, |cx, event| cx.back(event)));
            filters.extend((0..around).map(ignoring));
            let (socket, _) = world.accept(filters);
            notes.take();
            world.say(socket, "x");
            if around < 10 {
                assert_eq!(notes.take(), expected, "{dirs:?}, {around} around it");
            }
            assert_eq!(world.heard(socket), "x", "{dirs:?}, {around} around it");
        }
    }
}

/// Opens a sub-pipeline at its first event and destroys it at "destroy"; everything else goes into it.
struct Owner {
    notes: Notes,
    sub: Option<pipy_pipeline::PipelineId>,
    graceful: bool,
}

impl Filter for Owner {
    fn name(&self) -> &'static str {
        "owner"
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        match (&event, self.sub) {
            (Event::Data(bytes), Some(sub)) if bytes == "destroy" => {
                if self.graceful {
                    cx.close(sub)
                } else {
                    cx.destroy(sub)
                }
            }
            (_, Some(sub)) => cx.send(sub, event),
            (_, None) => {
                let sub = cx.open(vec![Probe::passing("sub", &self.notes)], 7);
                let address = SocketAddr::from(([127, 0, 0, 1], 9));
                cx.connect(
                    sub,
                    ConnectTo { address, source: None, also: None, timeout: Duration::ZERO, tell: false },
                );
                self.sub = Some(sub);
                cx.send(sub, event);
            }
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, slot: Slot, event: Event) {
        assert_eq!(slot, 7);
        self.notes.add("owner hears");
        cx.back(event);
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        if let Some(sub) = self.sub.take() {
            cx.destroy(sub);
        }
    }
}

#[test]
fn what_a_sub_pipeline_says_comes_to_its_owner() {
    let (mut world, notes) = (World::default(), Notes::default());
    let owner = Owner { notes: notes.clone(), sub: None, graceful: false };
    let (socket, _) = world.accept(vec![Box::new(owner)]);
    world.say(socket, "hello");
    let [upstream] = world.outgoing()[..] else { panic!("one connection") };
    assert_eq!(world.heard(upstream), "hello");
    world.say(upstream, "answer");
    assert_eq!(notes.take(), ["sub starts", "sub > data hello", "sub < data answer", "owner hears"]);
    assert_eq!(world.heard(socket), "answer");
}

#[test]
fn a_destroyed_pipeline_is_told_once_and_its_sockets_are_closed_as_asked() {
    for graceful in [false, true] {
        let (mut world, notes) = (World::default(), Notes::default());
        let owner = Owner { notes: notes.clone(), sub: None, graceful };
        let (socket, _) = world.accept(vec![Box::new(owner)]);
        world.say(socket, "hello");
        let upstream = world.outgoing()[0];
        notes.take();
        world.say(socket, "destroy");
        assert_eq!(notes.take(), ["sub closed"]);
        assert_eq!(world.socket(upstream).closed, Some(!graceful));
        // What still comes is for no one.
        world.say(upstream, "late");
        world.say(socket, "later");
        assert!(notes.take().is_empty());
        assert_eq!((world.graph.pipelines(), world.graph.sockets()), (1, 1));
        world.fail(socket, CloseReason::Reset);
        assert_eq!((world.graph.pipelines(), world.graph.sockets()), (0, 0));
    }
}

#[test]
fn a_pipeline_that_is_destroyed_under_its_own_hands_is_told_when_it_returns() {
    let (mut world, notes) = (World::default(), Notes::default());
    let noted = notes.clone();
    let suicide = Probe::answering("suicide", &notes, move |cx, _| {
        let own = cx.pipeline();
        cx.destroy(own);
        noted.add("still here");
        assert!(!cx.alive(own));
        // Sent from the other side of the grave: dropped.
        cx.back(data("ghost"));
        cx.forward(data("ghost"));
        cx.defer();
        cx.timer(Duration::from_secs(1), 0);
    });
    let (socket, _) =
        world.accept(vec![Probe::passing("left", &notes), suicide, Probe::passing("right", &notes)]);
    notes.take();
    world.say(socket, "go");
    let seen = notes.take();
    assert_eq!(
        seen,
        [
            "left > data go",
            "suicide > data go",
            "left closed",
            "right closed",
            "still here",
            "suicide closed"
        ]
    );
    world.pass(Duration::from_secs(2));
    assert!(notes.take().is_empty());
    assert_eq!((world.graph.pipelines(), world.graph.sockets()), (0, 0));
    assert_eq!(world.heard(socket), "");
}

#[test]
fn an_id_is_not_taken_for_the_pipeline_that_follows_at_its_place() {
    let (mut world, notes) = (World::default(), Notes::default());
    let (old, _) = world.accept(vec![Probe::passing("old", &notes)]);
    world.fail(old, CloseReason::Reset);
    let (new, _) = world.accept(vec![Probe::passing("new", &notes)]);
    notes.take();
    assert_eq!(old.index, new.index, "the place is used again");
    world.say(old, "for the old one");
    assert!(notes.take().is_empty());
    world.say(new, "for the new one");
    assert_eq!(notes.take(), ["new > data for the new one"]);
}

#[test]
fn deferred_work_is_done_when_the_turn_is_quiet_and_once() {
    let (mut world, notes) = (World::default(), Notes::default());
    let defers = Probe::answering("defers", &notes, |cx, event| {
        cx.defer();
        cx.forward(event);
    });
    let (socket, _) = world.accept(vec![defers, Probe::passing("right", &notes)]);
    notes.take();
    world.say(socket, "a");
    assert_eq!(notes.take(), ["defers > data a", "right > data a", "defers flush"]);
}

#[test]
fn events_that_are_only_carried_share_one_flush_afterwards() {
    let (mut world, notes) = (World::default(), Notes::default());
    let mut asked = false;
    let defers = Probe::answering("defers", &notes, move |cx, _| {
        if !std::mem::replace(&mut asked, true) {
            cx.defer();
        }
    });
    let (socket, _) = world.accept(vec![defers]);
    notes.take();
    for text in ["a", "b"] {
        world.graph.from_socket(socket, data(text));
        world.graph.carry();
    }
    assert_eq!(notes.take(), ["defers > data a", "defers > data b"]);
    world.graph.run();
    assert_eq!(notes.take(), ["defers flush"]);
}

#[test]
fn a_flush_asked_for_in_a_flush_comes_too() {
    struct Again(u32);
    impl Filter for Again {
        fn name(&self) -> &'static str {
            "again"
        }
        fn input(&mut self, cx: &mut Cx<'_>, _event: Event) {
            cx.defer();
        }
        fn flush(&mut self, cx: &mut Cx<'_>) {
            self.0 += 1;
            cx.back(Event::Data(self.0.to_string().into()));
            if self.0 < 3 {
                cx.defer();
            }
        }
    }
    let mut world = World::default();
    let (socket, _) = world.accept(vec![Box::new(Again(0))]);
    world.say(socket, "go");
    assert_eq!(world.heard(socket), "123");
}

#[test]
fn an_adopted_pipeline_speaks_to_its_new_owner_and_a_disowned_one_to_no_one() {
    let (mut world, notes) = (World::default(), Notes::default());
    let mut free = None;
    let noted = notes.clone();
    let adopter = Probe::answering("adopter", &notes, move |cx, event| {
        let pipeline = *free.get_or_insert_with(|| {
            let echo = Probe::answering("free", &noted, |cx, event| cx.back(event));
            cx.open_free(vec![echo])
        });
        match event {
            Event::Pause => cx.disown(pipeline),
            Event::Resume => cx.adopt(pipeline, 3),
            other => cx.send(pipeline, other),
        }
    });
    let (socket, _) = world.accept(vec![adopter]);
    notes.take();
    world.say(socket, "1");
    world.event(socket, Event::Resume);
    world.say(socket, "2");
    world.event(socket, Event::Pause);
    world.say(socket, "3");
    assert_eq!(world.heard(socket), "2");
    let heard: Vec<_> = notes.take().into_iter().filter(|note| note.contains("sub")).collect();
    assert_eq!(heard, ["adopter sub 3 data 2"]);
}

#[test]
fn a_failure_at_the_right_end_travels_to_the_left_and_leaves_nothing() {
    let (mut world, notes) = (World::default(), Notes::default());
    let owner = Owner { notes: notes.clone(), sub: None, graceful: false };
    let (socket, _) = world.accept(vec![Box::new(owner)]);
    world.say(socket, "x");
    let upstream = world.outgoing()[0];
    world.fail(upstream, CloseReason::ConnectFailed);
    assert_eq!((world.graph.pipelines(), world.graph.sockets()), (0, 0));
    assert_eq!(world.socket(socket).closed, Some(true), "the owner passed the failure on");
    let notes = notes.take();
    assert!(notes.contains(&"sub < close connect_failed".to_owned()), "{notes:?}");
}

#[test]
fn pause_and_resume_reach_the_socket_that_produces() {
    let (mut world, notes) = (World::default(), Notes::default());
    let owner = Owner { notes: notes.clone(), sub: None, graceful: false };
    let (socket, _) = world.accept(vec![Box::new(owner)]);
    world.say(socket, "x");
    let upstream = world.outgoing()[0];
    world.event(socket, Event::Pause);
    assert!(world.socket(upstream).paused);
    world.event(socket, Event::Resume);
    assert!(!world.socket(upstream).paused);
    world.event(upstream, Event::Pause);
    assert!(world.socket(socket).paused);
}

#[test]
fn ends_of_streams_become_what_the_socket_does() {
    for (reason, finished, closed) in [
        (CloseReason::Finished, true, None),
        (CloseReason::Reset, false, Some(true)),
        (CloseReason::Protocol, false, Some(true)),
        (CloseReason::IdleTimeout, false, Some(false)),
    ] {
        let (mut world, notes) = (World::default(), Notes::default());
        let ends = Probe::answering("ends", &notes, move |cx, _| cx.back(Event::Close(reason)));
        let (socket, _) = world.accept(vec![ends]);
        world.say(socket, "x");
        let state = world.socket(socket);
        assert_eq!((state.finished, state.closed), (finished, closed), "{reason:?}");
        assert_eq!(world.graph.pipelines(), usize::from(closed.is_none()));
    }
}

#[test]
fn timers_come_in_their_order_and_not_when_cancelled_or_too_late() {
    let (mut world, notes) = (World::default(), Notes::default());
    let timers = Probe::answering("t", &notes, |cx, _| {
        cx.timer(Duration::from_millis(30), 3);
        let cancelled = cx.timer(Duration::from_millis(20), 2);
        cx.timer(Duration::from_millis(10), 1);
        cx.cancel(cancelled);
        cx.cancel(cancelled);
    });
    let (socket, _) = world.accept(vec![timers]);
    world.say(socket, "go");
    notes.take();
    world.pass(Duration::from_millis(9));
    assert!(notes.take().is_empty());
    world.pass(Duration::from_millis(11));
    assert_eq!(notes.take(), ["t timer 1"]);
    assert!(world.graph.timers.next_due().is_some());
    world.fail(socket, CloseReason::Reset);
    notes.take();
    world.pass(Duration::from_secs(1));
    assert!(notes.take().is_empty(), "the pipeline is gone");
    assert!(world.graph.timers.next_due().is_none());
}

#[test]
fn a_cancelled_timer_is_not_taken_for_the_one_that_follows_at_its_place() {
    let (mut world, notes) = (World::default(), Notes::default());
    let timers = Probe::answering("t", &notes, |cx, _| {
        let old = cx.timer(Duration::from_millis(10), 1);
        cx.cancel(old);
        cx.timer(Duration::from_millis(20), 2);
        cx.cancel(old);
    });
    let (socket, _) = world.accept(vec![timers]);
    world.say(socket, "go");
    notes.take();
    world.pass(Duration::from_millis(30));
    assert_eq!(notes.take(), ["t timer 2"]);
}

/// Sets two timers when it is spoken to, the first of which cancels the second and sets one for now, again and again.
#[derive(Default)]
struct Restless {
    second: Option<TimerId>,
    called: Rc<Cell<u32>>,
}

impl Filter for Restless {
    fn name(&self) -> &'static str {
        "restless"
    }

    fn input(&mut self, cx: &mut Cx<'_>, _event: Event) {
        cx.timer(Duration::ZERO, 1);
        self.second = Some(cx.timer(Duration::ZERO, 2));
    }

    fn timer(&mut self, cx: &mut Cx<'_>, token: u32) {
        assert_eq!(token, 1, "the second was cancelled");
        self.called.set(self.called.get() + 1);
        self.second.take().into_iter().for_each(|second| cx.cancel(second));
        cx.timer(Duration::ZERO, 1);
    }
}

#[test]
fn a_timer_that_is_set_for_now_by_a_timer_comes_in_the_next_turn() {
    let mut world = World::default();
    let called: [Rc<Cell<u32>>; 2] = Default::default();
    for called in &called {
        let filter = Restless { called: Rc::clone(called), ..Restless::default() };
        let (socket, _) = world.accept(vec![Box::new(filter)]);
        world.say(socket, "go");
    }
    for turn in 1..4 {
        world.graph.run_timers();
        assert!(called.iter().all(|called| called.get() == turn), "each once in turn {turn}: {called:?}");
    }
    assert_eq!(world.graph.timers.len(), 2);
    assert!(world.graph.timers.next_due().is_some_and(|next| next <= world.graph.now));
}

#[test]
fn many_timers_that_are_set_and_cancelled_take_no_room() {
    let (mut world, notes) = (World::default(), Notes::default());
    let timers = Probe::answering("t", &notes, |cx, _| {
        for token in 0..10_000 {
            let timer = cx.timer(Duration::from_secs(3600), token);
            cx.cancel(timer);
        }
    });
    let (socket, _) = world.accept(vec![timers]);
    world.say(socket, "go");
    assert!(world.graph.timers.next_due().is_none());
}

#[test]
fn a_drain_reaches_every_filter() {
    let (mut world, notes) = (World::default(), Notes::default());
    world.accept(vec![Probe::passing("a", &notes), Probe::passing("b", &notes)]);
    world.accept(vec![Probe::passing("c", &notes)]);
    notes.take();
    world.drain();
    assert_eq!(notes.take(), ["a drain", "b drain", "c drain"]);
}
