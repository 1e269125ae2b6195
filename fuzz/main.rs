//! All fuzz targets in one program, as each takes long to build. `SEKALI_FUZZ_TARGET` names the one
//! that it plays.

#![no_main]

#[path = "fuzz_targets/bodies.rs"]
mod bodies;
#[path = "fuzz_targets/connections.rs"]
mod connections;
#[path = "fuzz_targets/directory.rs"]
mod directory;
#[path = "fuzz_targets/frames.rs"]
mod frames;
#[path = "fuzz_targets/queries.rs"]
mod queries;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static PLAY: LazyLock<fn(&[u8])> = LazyLock::new(|| match std::env::var("SEKALI_FUZZ_TARGET").as_deref() {
    Ok("bodies") => bodies::play,
    Ok("connections") => connections::play,
    Ok("directory") => directory::play,
    Ok("frames") => frames::play,
    Ok("queries") => queries::play,
    other => panic!("SEKALI_FUZZ_TARGET names no fuzz target: {other:?}"),
});

fuzz_target!(|data: &[u8]| PLAY(data));
