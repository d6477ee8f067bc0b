//! Whether the hub builds for NVIDIA cards, and whether models give the same there. It takes a quarter of an hour, most of
//! it candle's kernels, so `cargo xtask test` leaves it out.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    run::{Error, command, output, root, run},
    tools,
};

/// A CUDA compiler as packages of PyPI. Newer ones are refused by cudarc 0.19.
const COMPILER: &[&str] = &[
    "nvidia-cuda-nvcc==13.0.*",
    "nvidia-cuda-crt==13.0.*",
    "nvidia-nvvm==13.0.*",
    "nvidia-cuda-runtime==13.0.*",
    "nvidia-cuda-cccl==13.0.*",
    "nvidia-cuda-nvrtc==13.0.*",
    "nvidia-curand<10.5",
    "nvidia-cublas==13.0.*",
];
/// What is compiled for where no card tells: the RTX 40 series.
const CAPABILITY: &str = "89";

/// Builds the program with the feature `cuda`; with a card, runs the parity tests on it.
///
/// # Errors
/// If there is no compiler, or a step fails.
pub(crate) fn check() -> Result<(), Error> {
    if !cfg!(target_os = "linux") {
        return Err(
            "this chore is for Linux; elsewhere `cargo build --features cuda` with an installed CUDA".into(),
        );
    }
    let (toolkit, has_card) = (toolkit()?, has_card());
    let cargo = |args: &[&str]| {
        let mut cargo = command("cargo", args);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let paths = std::iter::once(toolkit.join("bin")).chain(std::env::split_paths(&path));
        cargo.env("PATH", std::env::join_paths(paths)?);
        for name in ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT", "CUDA_TOOLKIT_ROOT_DIR"] {
            cargo.env(name, &toolkit);
        }
        if std::env::var_os("CUDA_COMPUTE_CAP").is_none() && !has_card {
            cargo.env("CUDA_COMPUTE_CAP", CAPABILITY);
        }
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flags(&toolkit, has_card));
        // Other flags than everything else is built with.
        cargo.env("CARGO_TARGET_DIR", root().join("target/cuda"));
        Ok::<_, Error>(cargo)
    };
    run(cargo(&["build", "--release", "--bin", "hub", "--features", "hub-cli/cuda"])?)?;
    if !has_card {
        println!("built; there is no card here, so nothing was run on one");
        return Ok(());
    }
    let mut tests =
        cargo(&["test", "--release", "-p", "hub-models", "--features", "cuda", "--test", "it", "parity"])?;
    run({
        tests.env("HUB_TEST_DEVICE", "cuda:0");
        tests
    })
}

fn has_card() -> bool {
    output(command("nvidia-smi", &["-L"])).is_ok_and(|(_, ended_well)| ended_well)
}

/// Returns the compiler's flags, as `CARGO_ENCODED_RUSTFLAGS` holds them. The driver's library comes with the driver, so a
/// machine without a card has but its name.
fn flags(toolkit: &Path, has_card: bool) -> OsString {
    let given = std::env::var("RUSTFLAGS").unwrap_or_default();
    let mut flags: Vec<OsString> = given.split_whitespace().map(OsString::from).collect();
    for folder in ["lib64", "lib", "lib64/stubs", "lib/stubs"] {
        let mut flag = OsString::from("-Lnative=");
        flag.push(toolkit.join(folder));
        flags.push(flag);
    }
    if !has_card {
        flags.push("-Clink-arg=-Wl,--unresolved-symbols=ignore-all".into());
    }
    flags.join("\u{1f}".as_ref())
}

/// Returns the folder of an installed CUDA, or of one that is fetched from PyPI.
fn toolkit() -> Result<PathBuf, Error> {
    let installed = std::env::var_os("CUDA_HOME").map(PathBuf::from);
    if let Some(folder) =
        installed.or_else(|| Some("/usr/local/cuda".into())).filter(|it| it.join("bin/nvcc").exists())
    {
        return Ok(folder);
    }
    let python = tools::python("nvcc", &[COMPILER])?;
    let (found, ended_well) =
        output(command(python, &["-c", "import nvidia.cu13; print(*nvidia.cu13.__path__)"]))?;
    let folder = PathBuf::from(found.trim());
    if !ended_well || !folder.join("bin/nvcc").exists() {
        return Err("the packages of PyPI hold no nvcc".into());
    }
    link_libraries(&folder.join("lib"))?;
    Ok(folder)
}

/// Gives libraries the names that a linker looks for, and makes one that stands for the driver's.
fn link_libraries(folder: &Path) -> Result<(), Error> {
    for file in fs::read_dir(folder)? {
        let name = file?.file_name().to_string_lossy().into_owned();
        if let Some((base, _)) = name.split_once(".so.") {
            link(&name, &folder.join(format!("{base}.so")))?;
        }
    }
    link("lib", &folder.with_file_name("lib64"))?;
    let stub = folder.join("stubs/libcuda.so");
    if !stub.exists() {
        fs::create_dir_all(folder.join("stubs"))?;
        let stub = stub.to_string_lossy();
        let args = ["-shared", "-Wl,-soname,libcuda.so.1", "-o", &stub, "-xc", "/dev/null"];
        run(command("cc", &args))?;
    }
    Ok(())
}

#[cfg(unix)]
fn link(to: &str, at: &Path) -> io::Result<()> {
    match std::os::unix::fs::symlink(to, at) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

#[cfg(not(unix))]
fn link(_: &str, _: &Path) -> io::Result<()> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}
