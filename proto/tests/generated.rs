//! The committed code is what the `.proto` files say. `INFERSCOPE_GENERATE=1` writes it anew (`cargo xtask build-proto`).

use std::{env, fs, path::Path};

#[test]
fn the_generated_code_is_fresh() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = protox::compile([root.join("inferscope/v1/ship.proto")], [root]).unwrap();
    let out = env!("CARGO_TARGET_TMPDIR");
    tonic_prost_build::configure().bytes(".").out_dir(out).compile_fds(files).unwrap();
    let fresh = fs::read_to_string(Path::new(out).join("inferscope.v1.rs")).unwrap();
    let committed = root.join("src/generated/inferscope.v1.rs");
    if env::var_os("INFERSCOPE_GENERATE").is_some() {
        fs::write(&committed, &fresh).unwrap();
    }
    let committed = fs::read_to_string(&committed).unwrap_or_default();
    assert!(committed == fresh, "the generated code is stale: run `cargo xtask build-proto` and commit the result");
}
