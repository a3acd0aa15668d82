//! Compiles the protocol with `protox` (no `protoc` needed) and stamps the commit.

use std::{env, fs, path::PathBuf, process::Command};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = [
        "axs/v1/types.proto",
        "axs/v1/write.proto",
        "axs/v1/read.proto",
        "axs/v1/ack.proto",
        "axs/v1/log.proto",
    ];
    let descriptors = protox::compile(protos, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(
        out.join("axs.binpb"),
        prost::Message::encode_to_vec(&descriptors),
    )?;
    tonic_prost_build::configure()
        .bytes(".axs.v1.Amount")
        .compile_fds(descriptors)?;

    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".into());
    println!("cargo:rustc-env=AXS_COMMIT={commit}");
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-changed=build.rs");
    // The reflog moves with every commit of this checkout. A path that does not exist would make
    // cargo build everything again each time.
    for name in ["logs/HEAD", "HEAD"] {
        let path = git(&["rev-parse", "--git-path", name]).unwrap_or_default();
        if !path.is_empty() && PathBuf::from(&path).exists() {
            println!("cargo:rerun-if-changed={path}");
            break;
        }
    }
    Ok(())
}

/// What a git command prints; `None` outside a checkout or without git.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}
