//! What is kept, what is forgotten, and what happens beyond the limits.

use super::*;

fn worker() -> (WorkerMetrics, Arc<WorkerShared>) {
    let shared = Arc::new(WorkerShared::default());
    (WorkerMetrics::new(Arc::clone(&shared)), shared)
}

fn names(shared: &WorkerShared) -> Vec<String> {
    let mut clusters = lock(&shared.clusters);
    clusters.forget();
    clusters.iter().map(|(name, _)| name.to_owned()).collect()
}

fn destination(pod: &str) -> DestinationLabels<'_> {
    DestinationLabels { namespace: "bookstore", kind: "Deployment", name: "bookstore-v1", pod }
}

#[test]
fn clusters_of_a_configuration_are_there_before_they_are_used() {
    let (worker, shared) = worker();
    worker.set_clusters(&["a|80", "b|80"]);
    assert_eq!(names(&shared), ["a|80", "b|80"]);
}

#[test]
fn a_cluster_that_is_gone_is_forgotten_when_its_last_holder_is() {
    let (worker, shared) = worker();
    worker.set_clusters(&["a|80", "b|80"]);
    let held = worker.cluster("a|80");
    held.request();

    worker.set_clusters(&["c|80"]);
    assert_eq!(names(&shared), ["a|80", "c|80"]);

    drop(held);
    assert_eq!(names(&shared), ["c|80"]);
}

#[test]
fn a_cluster_of_the_proxys_own_making_stays() {
    let (worker, shared) = worker();
    worker.cluster("passthrough").request();
    worker.set_clusters(&["a|80"]);
    worker.set_clusters(&["b|80"]);
    assert_eq!(names(&shared), ["b|80", "passthrough"]);
    assert_eq!(worker.cluster("passthrough").rq_total.get(), 1);
}

#[test]
fn a_cluster_that_stays_keeps_its_counts() {
    let (worker, _) = worker();
    worker.set_clusters(&["a|80"]);
    worker.cluster("a|80").request();
    worker.set_clusters(&["a|80", "b|80"]);
    assert_eq!(worker.cluster("a|80").rq_total.get(), 1);
}

#[test]
fn clusters_beyond_the_limit_are_counted_together() {
    let (worker, shared) = worker();
    let many: Vec<String> = (0..CLUSTERS_MAX + 10).map(|i| format!("cluster-{i}")).collect();
    worker.set_clusters(&many);

    let beyond = worker.cluster(&many[CLUSTERS_MAX + 1]);

    assert!(Arc::ptr_eq(&beyond, &worker.cluster(&many[CLUSTERS_MAX + 2])));
    assert!(names(&shared).contains(&OTHER.to_owned()));
    assert!(names(&shared).len() <= CLUSTERS_MAX + 1);
}

#[test]
fn names_that_no_configuration_knows_do_not_fill_the_table() {
    let (worker, shared) = worker();
    worker.set_clusters(&["a|80"]);
    for i in 0..2 * CLUSTERS_MAX {
        worker.cluster(&format!("made-up-{i}")).request();
    }
    assert!(names(&shared).len() <= CLUSTERS_MAX);
    assert!(names(&shared).contains(&"a|80".to_owned()));
    assert!(!Arc::ptr_eq(&worker.cluster("new"), &worker.cluster(OTHER)));
}

#[test]
fn the_same_destination_has_one_histogram() {
    let (worker, _) = worker();
    let first = worker.duration(&destination("pod-1"));
    assert!(Arc::ptr_eq(&first, &worker.duration(&destination("pod-1"))));
    assert!(!Arc::ptr_eq(&first, &worker.duration(&destination("pod-2"))));
}

#[test]
fn destinations_beyond_the_limit_share_one_histogram_until_idle_ones_make_room() {
    let (worker, shared) = worker();
    for i in 0..DESTINATIONS_MAX {
        worker.duration(&destination(&format!("pod-{i}"))).record_us(1);
    }
    let beyond = worker.duration(&destination("late"));
    assert!(Arc::ptr_eq(&beyond, &worker.duration(&destination("later"))));

    // Two looks for idle entries: the first notes the counts, the second finds them unchanged, but for one.
    for _ in 0..2 * DESTINATIONS_MAX {
        worker.duration(&destination("pod-7")).record_us(1);
        worker.duration(&destination("late")).record_us(1);
    }

    let kept: Vec<String> = lock(&shared.durations).iter().map(|(labels, _)| labels[3].to_owned()).collect();
    assert!(kept.contains(&"pod-7".to_owned()), "it was in use");
    assert!(kept.contains(&"late".to_owned()), "room was made for it");
    assert!(kept.len() < 10, "{} entries are left", kept.len());
    assert!(kept.contains(&OTHER.to_owned()), "what was counted together stays");
}

#[test]
fn a_stats_header_is_read_and_nothing_else_is() {
    let read = DestinationLabels::parse(b"bookstore,Deployment,bookstore-v1,bookstore-v1-abc.1");
    assert_eq!(read, Some(destination("bookstore-v1-abc.1")));
    assert_eq!(DestinationLabels::parse(b",,,").map(|labels| labels.pod), Some(""));
    for wrong in [
        &b""[..],
        b"a,b,c",
        b"a,b,c,d,e",
        b"a,b,c,d\n",
        b"a,b,c,\"",
        b"a,b,c,\xff",
        "a,b,c,ä".as_bytes(),
        &[b"a,b,c,".as_slice(), &[b'x'; 254]].concat(),
    ] {
        assert_eq!(DestinationLabels::parse(wrong), None, "{wrong:?}");
    }
}
