//! A hub in a directory of its own, and ways to talk to it.

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, StatusCode},
};
use hub::{
    Hub, HubConfig,
    base::{ModelId, ProgressSink},
    config::LocalAccess,
};
use hub_server::{Access, AppState, app};
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt;

/// A hub and its server without a socket.
pub(crate) struct World {
    pub(crate) hub: Hub,
    pub(crate) app: Router,
    _home: TempDir,
    models: Vec<TempDir>,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(HubConfig::default()).await
    }

    pub(crate) async fn requiring_keys() -> Self {
        let mut config = HubConfig::default();
        config.auth.local = LocalAccess::Require;
        Self::with(config).await
    }

    pub(crate) async fn with(config: HubConfig) -> Self {
        let home = tempfile::tempdir().unwrap();
        let hub = Hub::open(config, home.path()).await.unwrap();
        let access = Access::new(&hub.config().server, hub.config().auth.local);
        let app = app(AppState::new(hub.clone(), access));
        Self { hub, app, _home: home, models: Vec::new() }
    }

    /// Imports one of the tiny models of the fixtures under its own name.
    pub(crate) async fn import(mut self, name: &str) -> Self {
        let folder = hub_fixtures::tiny_model(name);
        self.hub
            .import(folder.path(), Some(ModelId::new(name).unwrap()), ProgressSink::default())
            .await
            .unwrap();
        self.models.push(folder);
        self
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 64 << 20).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answer { status: parts.status, headers: parts.headers, text }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Request::post(path).body(Body::from(body.to_string())).unwrap()).await
    }
}

impl Answer {
    /// Reads the answer as JSON; it must have this status.
    #[track_caller]
    pub(crate) fn json(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// Reads the answer as a stream of events, which must be whole, and returns what they carry.
    #[track_caller]
    pub(crate) fn events(&self) -> Vec<Value> {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        assert_eq!(self.header("content-type"), "text/event-stream");
        let mut events: Vec<&str> = self.text.split_terminator("\n\n").collect();
        assert_eq!(events.pop(), Some("data: [DONE]"), "{}", self.text);
        let data =
            |event: &&str| event.strip_prefix("data: ").map(|data| serde_json::from_str(data).unwrap());
        events.iter().filter(|event| !event.starts_with(':')).map(|event| data(event).unwrap()).collect()
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers));
        value.to_str().unwrap()
    }

    /// Checks that the answer is an error in OpenAI's envelope, with all four keys.
    #[track_caller]
    pub(crate) fn check_error(&self, status: u16, param: &Value, code: Option<&str>) {
        let json = self.json(status);
        let error = json["error"].as_object().unwrap_or_else(|| panic!("{json}"));
        let keys: Vec<&str> = error.keys().map(String::as_str).collect();
        assert_eq!(keys, ["message", "type", "param", "code"]);
        assert_eq!(&error["param"], param, "{json}");
        if let Some(code) = code {
            assert_eq!(error["code"], code, "{json}");
        }
    }
}
