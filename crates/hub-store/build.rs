//! Rebuilds the crate when a migration is added: the compiler only follows those it has already seen.

fn main() {
    println!("cargo:rerun-if-changed=migrations/sqlite");
}
