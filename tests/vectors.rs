//! Replay of recorded conversations with the system that activekg replaces, one area a test.
//!
//! An area starts a server on an empty store, sends the recorded requests in order and compares
//! the answers. Where activekg answers differently on purpose, `vectors/deviations.json` says so,
//! by which rule, and what it answers instead; that is compared too. Anything else that differs
//! fails the test, and so does a row of that table that is not needed any more.

mod bucket;
mod case;
mod compare;
mod conformance;
mod deviations;
mod replay;

use deviations::Deviations;
use replay::Replay;

use crate::common::of_checkout;

macro_rules! areas {
    ($($area:ident),+ $(,)?) => {
        const AREAS: &[&str] = &[$(stringify!($area)),+];
        $(
            #[test]
            fn $area() {
                Replay::of(stringify!($area)).run();
            }
        )+
    };
}

areas![
    service,
    nodes,
    batch,
    edges,
    validation,
    search,
    search_l2,
    noembed,
    async_,
    asynccap,
    jwt,
    tenancy,
    tenancy_owner,
    triggers,
    admin,
    ask,
    ask_cosine,
    ask_off,
    ratelimit,
    upload,
    connectors,
    rotation,
    webhooks,
    webhooks_open,
    webhooks_gcs,
];

/// The file of an area. A keyword cannot name a test, so that one has a line below its name.
fn file(area: &str) -> String {
    let path = format!("tests/data/vectors/{}.json", area.trim_end_matches('_'));
    of_checkout(&path).display().to_string()
}

#[test]
fn every_deviation_belongs_to_an_area_that_is_replayed() {
    for case in Deviations::read().cases() {
        let area = case.split('.').next().unwrap_or_default();
        let replayed = AREAS.iter().any(|known| known.trim_end_matches('_') == area);
        assert!(replayed, "{case}");
    }
}
