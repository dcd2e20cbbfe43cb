//! Maps of code that was made, of any bytes.
#![no_main]

use fdtrace::enrich::stacks::perf_map::{PerfMap, function};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let map = PerfMap::parse(input);
    // Whatever lies there has a name that is kept within its bound.
    for address in [0, 0x1000, 0x7fff_ffff_ffff, u64::MAX] {
        assert!(map.name(address).is_none_or(|name| name.len() <= 3 * 512));
    }
    // And a function, V8's or another one's, that says no more than the name.
    let name = String::from_utf8_lossy(input);
    let frame = function(&name);
    let told = frame.file.map_or(0, |file| file.len());
    assert!(frame.function.is_some() && told <= name.len());
});
