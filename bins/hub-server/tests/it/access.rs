use axum::{body::Body, http::Request};
use hub::HubConfig;
use hub_server::{Error, Server};
use serde_json::Value;

use crate::world::{Answer, World};

async fn get(world: &World, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::get("/v1/models");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    world.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_needs_no_key_and_may_send_any() {
    let world = World::new().await;
    for headers in [&[][..], &[("authorization", "Bearer sk-anything")]] {
        get(&world, headers).await.json(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_ours_that_does_not_hold_is_refused_even_here() {
    let world = World::new().await;
    get(&world, &[("authorization", "Bearer hub_unknown")]).await.json(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_key_must_be_known_and_not_revoked() {
    let world = World::requiring_keys().await;
    get(&world, &[]).await.check_error(401, &Value::Null, Some("invalid_api_key"));
    for wrong in ["Bearer sk-anything", "Bearer hub_0000", "Basic aHVi"] {
        get(&world, &[("authorization", wrong)]).await.check_error(
            401,
            &Value::Null,
            Some("invalid_api_key"),
        );
    }
    // No operation is forgotten, not even one that does not exist.
    world.get("/v1/nothing").await.check_error(401, &Value::Null, Some("invalid_api_key"));
    for open in ["/health", "/ready", "/metrics"] {
        assert_eq!(world.get(open).await.status, 200);
    }

    let keys = world.hub.store().keys();
    let key = keys.create("laptop", 0).await.unwrap();
    let bearer = format!("Bearer {}", key.secret.reveal());
    get(&world, &[("authorization", &bearer)]).await.json(200);
    get(&world, &[("x-api-key", key.secret.reveal())]).await.json(200);
    keys.revoke("laptop", 1).await.unwrap();
    get(&world, &[("authorization", &bearer)]).await.check_error(401, &Value::Null, Some("invalid_api_key"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebound_name_reaches_nothing() {
    let world = World::new().await;
    get(&world, &[("host", "127.0.0.1:8484")]).await.json(200);
    let refused = get(&world, &[("host", "evil.example:8484")]).await;
    refused.check_error(403, &Value::Null, Some("host_not_allowed"));
    assert!(refused.text.contains("[server] origins"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_name_a_request_uses_must_be_this_server() {
    let world = World::new().await;
    let local = ("host", "127.0.0.1:8484");
    get(&world, &[local, local]).await.check_error(400, &Value::Null, Some("invalid_host"));
    let whole_url = Request::get("http://evil.example/v1/models").header(local.0, local.1);
    let refused = world.send(whole_url.body(Body::empty()).unwrap()).await;
    refused.check_error(403, &Value::Null, Some("host_not_allowed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_this_machine_may_call_and_others_are_told_the_setting() {
    let mut config = HubConfig::default();
    config.server.origins = vec!["https://chat.example".parse().unwrap()];
    let world = World::with(config).await;
    for origin in ["http://localhost:5173", "https://chat.example"] {
        let answer = get(&world, &[("origin", origin)]).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("access-control-allow-origin"), origin);
        assert_eq!(answer.header("vary"), "origin");
        for exposed in ["x-request-id", "x-hub-model", "x-hub-route"] {
            assert!(answer.header("access-control-expose-headers").contains(exposed));
        }
    }
    for origin in ["https://evil.example", "null"] {
        let refused = get(&world, &[("origin", origin)]).await;
        refused.check_error(403, &Value::Null, Some("origin_not_allowed"));
        assert!(refused.text.contains("[server] origins"));
        assert!(!refused.headers.contains_key("access-control-allow-origin"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_is_answered_without_a_key() {
    let world = World::requiring_keys().await;
    let preflight = |origin: &str| {
        Request::options("/v1/chat/completions")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization, content-type, x-stainless-lang")
            .body(Body::empty())
            .unwrap()
    };
    let answer = world.send(preflight("http://localhost:3000")).await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), "http://localhost:3000");
    assert!(answer.header("access-control-allow-methods").contains("POST"));
    assert!(answer.header("access-control-allow-headers").contains("x-stainless-lang"));
    let refused = world.send(preflight("https://evil.example")).await;
    refused.check_error(403, &Value::Null, Some("origin_not_allowed"));
    // A page must be able to read why its call was refused.
    let refused = get(&world, &[("origin", "http://localhost:3000")]).await;
    refused.check_error(401, &Value::Null, Some("invalid_api_key"));
    assert_eq!(refused.header("access-control-allow-origin"), "http://localhost:3000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_address_is_refused_without_a_key() {
    let mut config = HubConfig::default();
    config.server.host = "0.0.0.0".parse().unwrap();
    config.server.port = 0;
    let world = World::with(config).await;
    let refused = Server::bind(world.hub.clone()).await.unwrap_err();
    assert!(matches!(refused, Error::NoKey { .. }), "{refused}");
    assert!(refused.to_string().contains("hub keys create"));
    world.hub.store().keys().create("laptop", 0).await.unwrap();
    Server::bind(world.hub.clone()).await.unwrap();
    // With a key there, callers need one, whatever `auth.local` says.
    get(&world, &[]).await.check_error(401, &Value::Null, Some("invalid_api_key"));
}
