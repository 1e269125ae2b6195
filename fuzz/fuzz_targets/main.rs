//! All fuzz targets in one program, as each takes long to build. `SEKALI_FUZZ_TARGET` names the one
//! that it plays.

#![no_main]

mod bodies;
mod connections;
mod directory;
mod frames;
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
