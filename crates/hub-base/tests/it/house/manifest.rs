use std::collections::BTreeSet;

use toml::{Table, Value};

use super::{
    ARROWS, FRONTEND, OWNERS,
    workspace::{Package, Place, Workspace},
};

/// Returns every rule that a package's manifest breaks.
pub(super) fn complaints(package: &Package, workspace: &Workspace) -> Vec<String> {
    let name = package.name.as_str();
    let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == name) else {
        return vec![format!("{name} has no line in ARROWS")];
    };
    let mut complaints = Vec::new();
    for dependency in dependencies(&package.manifest, &workspace.manifest) {
        let dependency = dependency.as_str();
        let is_ours = ARROWS.iter().any(|(ours, _)| *ours == dependency)
            || workspace.packages.iter().any(|package| package.name == dependency);
        if is_ours && !allowed.contains(&dependency) {
            complaints.push(format!("{name} -> {dependency} is not an allowed arrow"));
        }
        if package.place == Place::Library && FRONTEND.contains(&dependency) {
            complaints
                .push(format!("{name} is a library and must not name the frontend package {dependency}"));
        } else if let Some((_, owners)) = OWNERS.iter().find(|(heavy, _)| *heavy == dependency)
            && !owners.contains(&name)
        {
            complaints
                .push(format!("{name} must not name {dependency}, which belongs to {}", owners.join(", ")));
        }
    }
    complaints
}

/// Returns the real names of the packages a manifest depends on, for any target, in builds and build scripts.
///
/// What only tests use (`dev-dependencies`) is free. A renamed package counts under its own name, whether it is
/// renamed here or in the workspace's table.
fn dependencies(manifest: &Table, workspace: &Table) -> BTreeSet<String> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let scopes = targets.into_iter().flat_map(Table::values).filter_map(Value::as_table);
    let tables = [manifest].into_iter().chain(scopes).flat_map(|scope| {
        ["dependencies", "build-dependencies"].map(|table| scope.get(table).and_then(Value::as_table))
    });
    let shared = workspace
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies"))
        .and_then(Value::as_table);
    let mut names = BTreeSet::new();
    for (key, value) in tables.flatten().flatten() {
        let inherited =
            shared.filter(|_| value.get("workspace").is_some()).and_then(|shared| shared.get(key));
        let renamed = inherited.unwrap_or(value).get("package").and_then(Value::as_str);
        names.insert(renamed.unwrap_or(key).to_owned());
    }
    names
}

#[track_caller]
fn check(place: Place, manifest: &str, expected: &[&str]) {
    let mut workspace = Workspace::read();
    workspace.manifest =
        "[workspace.dependencies]\nsql = { package = 'sqlx', version = '1' }".parse().unwrap();
    assert_eq!(complaints(&Package::pretend(place, manifest), &workspace), expected);
}

#[test]
fn a_lawful_manifest_is_left_alone() {
    check(
        Place::Library,
        "
        package.name = 'hub-store'
        dependencies = { sqlx = '1', hub-base.workspace = true, serde = { version = '1' } }
        dev-dependencies = { axum = '1', hub-models = { path = '../hub-models' } }
        ",
        &[],
    );
    check(Place::Program, "package.name = 'hub-server'\ndependencies = { axum = '1', hub.path = '' }", &[]);
}

#[test]
fn a_new_arrow_is_found_in_every_kind_of_table() {
    let complaint: &[&str] = &["hub-router -> hub-models is not an allowed arrow"];
    for manifest in [
        "dependencies.hub-models = { path = '../hub-models' }",
        "dependencies.hub-models.workspace = true",
        "build-dependencies.hub-models.workspace = true",
        "dependencies.models = { package = 'hub-models', path = '../hub-models' }",
        "target.'cfg(unix)'.dependencies.hub-models = '1'",
    ] {
        check(Place::Library, &format!("package.name = 'hub-router'\n{manifest}"), complaint);
    }
}

#[test]
fn a_program_may_not_reach_past_the_hub() {
    check(
        Place::Program,
        "package.name = 'hub-cli'\ndependencies = { hub-models.workspace = true, candle-core = '1' }",
        &[
            "hub-cli must not name candle-core, which belongs to hub-nn, hub-voice, hub-vision, hub-train",
            "hub-cli -> hub-models is not an allowed arrow",
        ],
    );
}

#[test]
fn a_frontend_package_in_a_library_is_found() {
    check(
        Place::Library,
        "package.name = 'hub'\ndependencies.axum = '1'",
        &["hub is a library and must not name the frontend package axum"],
    );
}

#[test]
fn a_heavy_package_is_found_under_another_name() {
    let complaint: &[&str] = &["hub-router must not name sqlx, which belongs to hub-store"];
    check(Place::Library, "package.name = 'hub-router'\ndependencies.sql.workspace = true", complaint);
    check(Place::Library, "package.name = 'hub-router'\ndependencies.db = { package = 'sqlx' }", complaint);
}

#[test]
fn an_unknown_package_is_found() {
    check(Place::Library, "package.name = 'hub-surprise'", &["hub-surprise has no line in ARROWS"]);
}
