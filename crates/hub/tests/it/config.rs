use std::path::Path;

use hub::config::{Budget, ConfigError, LocalAccess, Origin, Resolved, SETTINGS, resolve};

fn resolved(
    file: &str,
    variables: &[(&str, &str)],
    flags: &[(&str, &str, &str)],
) -> Result<Resolved, ConfigError> {
    let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    let flags = flags.iter().map(|(flag, key, value)| (*flag, *key, value.to_string()));
    resolve(Some((Path::new("hub.toml"), file)), variables, flags)
}

#[track_caller]
fn refused(file: &str, variables: &[(&str, &str)], expected: &str) {
    let error = resolved(file, variables, &[]).unwrap_err();
    assert_eq!(error.to_string(), expected);
}

#[track_caller]
fn origin(resolved: &Resolved, key: &str) -> (String, String) {
    let entries = resolved.entries();
    let entry = entries.iter().find(|entry| entry.key == key).unwrap();
    (entry.value.as_ref().map(ToString::to_string).unwrap_or_default(), entry.origin.to_string())
}

#[test]
fn later_wins_and_each_value_knows_its_origin() {
    let file = "[server]\nport = 1000\norigins = [\"https://a.example\"]\n\n[memory]\nbudget = \"6GiB\"\n";
    let variables =
        [("HUB_SERVER__PORT", "2000"), ("HUB_AUTH__LOCAL", "require"), ("HUB_HOME", "/x"), ("PATH", "/bin")];
    let found = resolved(file, &variables, &[("--port", "server.port", "3000")]).unwrap();
    assert_eq!(found.config.server.port, 3000);
    assert_eq!(found.config.memory.budget, Budget::Bytes(6 << 30));
    assert_eq!(found.config.auth.local, LocalAccess::Require);
    assert_eq!(origin(&found, "server.port"), ("3000".into(), "--port".into()));
    assert_eq!(origin(&found, "server.origins"), ("[\"https://a.example\"]".into(), "hub.toml:3".into()));
    assert_eq!(origin(&found, "memory.budget"), ("\"6GiB\"".into(), "hub.toml:6".into()));
    assert_eq!(origin(&found, "auth.local"), ("\"require\"".into(), "HUB_AUTH__LOCAL".into()));
    assert_eq!(origin(&found, "server.host"), ("\"127.0.0.1\"".into(), "default".into()));
    assert_eq!(origin(&found, "compute.threads"), (String::new(), "default".into()));
}

#[test]
fn a_variable_takes_the_form_its_setting_needs() {
    let variables = [
        ("HUB_MEMORY__BUDGET", "4096"),
        ("HUB_SERVER__ORIGINS", "https://a.example, https://b.example"),
        ("HUB_SERVER__HOST", "localhost"),
        ("HUB_COMPUTE__DEVICE", "cpu"),
        ("HUB_STORE__DATABASE_URL", "sqlite:other.db"),
    ];
    let config = resolved("", &variables, &[]).unwrap().config;
    assert_eq!(config.memory.budget, Budget::Bytes(4_096));
    let origins: Vec<_> = config.server.origins.iter().map(ToString::to_string).collect();
    assert_eq!(origins, ["https://a.example", "https://b.example"]);
    assert_eq!(config.server.host.to_string(), "127.0.0.1");
    assert_eq!(config.compute.device, "cpu");
    assert_eq!(config.store.database_url.to_string(), "sqlite:other.db");
}

#[test]
fn a_typo_is_named_with_its_place_and_what_was_meant() {
    refused(
        "\n[server]\nprot = 1\n",
        &[],
        "hub.toml:3: there is no setting `server.prot`; did you mean `server.port`?",
    );
    refused("[sever]\nport = 1\n", &[], "hub.toml:1: there is no setting `sever`; did you mean `server`?");
    refused(
        "[memory]\nport = 1\n",
        &[],
        "hub.toml:2: there is no setting `memory.port`; did you mean `server.port`?",
    );
    refused("[server]\ncolour = 1\n", &[], "hub.toml:2: there is no setting `server.colour`");
    refused(
        "",
        &[("HUB_SERVER__PROT", "1")],
        "HUB_SERVER__PROT: there is no setting `server.prot`; did you mean `server.port`?",
    );
}

#[test]
fn a_wrong_value_is_named_with_its_place() {
    refused(
        "[server]\nport = \"many\"\n",
        &[],
        "hub.toml:2: `server.port`: invalid type: string \"many\", expected u16",
    );
    refused(
        "[memory]\nbudget = \"lots\"\n",
        &[],
        "hub.toml:2: `memory.budget`: \"lots\" is no amount of memory: write a share such as \"80%\" or a size such as \"6GiB\"",
    );
    refused(
        "",
        &[("HUB_COMPUTE__EXECUTOR", "gpu")],
        "HUB_COMPUTE__EXECUTOR: `compute.executor`: unknown variant `gpu`, expected one of `auto`, `candle`, `cpu`",
    );
    refused(
        "server = 3\n",
        &[],
        "hub.toml:1: `server`: is a section: write `[server]` and its settings below",
    );
}

#[test]
fn what_has_no_effect_yet_is_refused_by_name() {
    refused(
        "[store]\nredis_url = \"redis://localhost\"\n",
        &[],
        "hub.toml:2: `store.redis_url` is not supported yet: remove it",
    );
    refused(
        "",
        &[("HUB_STORE__FILES_URL", "s3://bucket")],
        "HUB_STORE__FILES_URL: `store.files_url` is not supported yet: remove it",
    );
    let url = [("HUB_STORE__DATABASE_URL", "postgres://me:secret@host/db")];
    let message = resolved("", &url, &[]).unwrap_err().to_string();
    assert!(message.starts_with("HUB_STORE__DATABASE_URL: `store.database_url`:"), "{message}");
    assert!(!message.contains("secret"), "{message}");
}

#[test]
fn what_is_no_toml_is_named_with_its_line() {
    let error = resolved("[server]\nport = = 1\n", &[], &[]).unwrap_err();
    assert!(error.to_string().starts_with("hub.toml:2: "), "{error}");
}

#[test]
fn aliases_are_names_of_ones_own() {
    let found =
        resolved("[aliases]\n\"gpt-4o-mini\" = \"qwen3-8b\"\nfast = [\"a\", \"b\"]\n", &[], &[]).unwrap();
    assert_eq!(origin(&found, "aliases.gpt-4o-mini"), ("\"qwen3-8b\"".into(), "hub.toml:2".into()));
    assert_eq!(found.config.aliases["fast"].names(), ["a", "b"]);
    let error = resolved("[aliases]\na = \"b\"\nb = \"a\"\n", &[], &[]).unwrap_err().to_string();
    assert!(error.contains("hub.toml:2: aliases lead in a circle: a -> b -> a"), "{error}");
    let error = resolved("[server]\norigins = [\"chat.example\"]\n", &[], &[]).unwrap_err().to_string();
    assert!(error.contains("hub.toml:2: `server.origins`: \"chat.example\" is not an origin"), "{error}");
}

#[test]
fn every_listed_setting_can_be_set_and_every_field_is_listed() {
    for setting in SETTINGS {
        let (section, name) = setting.key.split_once('.').unwrap();
        let file = format!("[{section}]\n{name} = {{ no = \"such value\" }}\n");
        let error = resolved(&file, &[], &[]).unwrap_err();
        assert!(matches!(error, ConfigError::Value { .. }), "{error}");
    }
    let table = toml::Table::try_from(hub::HubConfig::default()).unwrap();
    for (section, fields) in table.iter().filter(|(section, _)| *section != "aliases") {
        for name in fields.as_table().unwrap().keys() {
            let key = format!("{section}.{name}");
            assert!(SETTINGS.iter().any(|setting| setting.key == key), "{key} is not listed");
        }
    }
    assert_eq!(resolved("", &[], &[]).unwrap().origins.get("server.port"), None::<&Origin>);
}

#[test]
fn well_known_variables_are_settings_and_secrets_are_shown_to_nobody() {
    let variables =
        [("HF_TOKEN", "hf_secret"), ("HUB_OFFLINE", "1"), ("HF_ENDPOINT", ""), ("HF_HOME", "/data/hf")];
    let resolved = resolved("", &variables, &[]).unwrap();
    let fetch = &resolved.config.fetch;
    assert!(fetch.offline && fetch.hf_token.as_deref() == Some("hf_secret"));
    assert_eq!(fetch.hf_home.as_deref(), Some(std::path::Path::new("/data/hf")));
    assert_eq!(fetch.hf_endpoint, "https://huggingface.co", "an empty variable is none");
    assert!(!format!("{resolved:?} {:?}", resolved.entries()).contains("hf_secret"));
}
