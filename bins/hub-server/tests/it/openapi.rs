use axum::{body::Body, http::Request};
use serde_json::{Value, json};

use crate::world::World;

async fn document(world: &World) -> Value {
    world.get("/openapi.json").await.json(200)
}

#[tokio::test(flavor = "multi_thread")]
async fn document_and_page_need_no_key() {
    let world = World::requiring_keys().await;
    assert_eq!(document(&world).await["info"]["version"], env!("CARGO_PKG_VERSION"));
    for (path, content_type) in [
        ("/docs", "text/html; charset=utf-8"),
        ("/docs/page.css", "text/css; charset=utf-8"),
        ("/docs/page.js", "text/javascript; charset=utf-8"),
    ] {
        let answer = world.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, content_type), "{path}");
        assert!(answer.header("content-security-policy").starts_with("default-src 'none'"), "{path}");
        // The page asks nobody but this server, and runs nothing but its own file.
        for foreign in ["http://", "https://", " onclick=", " style=", "innerHTML", "eval("] {
            assert!(!answer.text.contains(foreign), "{path} has {foreign}");
        }
    }
    for missing in ["/docs/page.html", "/docs/%ff"] {
        world.get(missing).await.check_error(404, &Value::Null, Some("not_found"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_in_the_document_is_one_of_the_server() {
    let world = World::new().await;
    for (path, verbs) in document(&world).await["paths"].as_object().unwrap() {
        for (verb, operation) in verbs.as_object().unwrap() {
            // An empty body is refused, but by the operation.
            let path = path.replace("{id}", "hub-guide").replace("{file}", "page.css");
            let method = verb.to_uppercase();
            let request = Request::builder().method(method.as_str()).uri(&path).body(Body::empty()).unwrap();
            let answer = world.send(request).await;
            let expected = if verb == "get" { 200 } else { 400 };
            assert_eq!(answer.status.as_u16(), expected, "{method} {path}: {}", answer.text);
            let media = &operation["responses"][expected.to_string()]["content"];
            let content_type = answer.header("content-type").split(';').next().unwrap();
            assert!(media.get(content_type).is_some(), "{method} {path} answers with {content_type}");
            for header in operation["responses"][expected.to_string()]["headers"].as_object().unwrap().keys()
            {
                assert!(!answer.header(header).is_empty(), "{method} {path} has no {header}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_says_what_the_parser_holds_to() {
    let world = World::new().await;
    let document = document(&world).await;
    let operation = &document["paths"]["/v1/chat/completions"]["post"];
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(body["required"], json!(["model", "messages"]));
    assert_eq!(body["additionalProperties"], false);
    let fields = &body["properties"];
    let temperature = &fields["temperature"];
    assert_eq!((&temperature["minimum"], &temperature["maximum"]), (&json!(0), &json!(2)));
    let message = &fields["messages"]["items"];
    assert_eq!(message["properties"]["role"]["enum"], json!(["system", "developer", "user", "assistant"]));
    let part = &message["properties"]["content"]["anyOf"][1]["items"];
    assert_eq!(part["required"], json!(["type", "text"]));
    assert_eq!(fields["stream_options"]["properties"]["include_usage"]["type"], json!(["boolean", "null"]));
    // A field that is not served shows with the values that ask for nothing, and not at all where there are none.
    assert_eq!(fields["tools"]["maxItems"], 0);
    assert!(fields.get("guided_json").is_none());
    let errors = |path: &str| {
        let operation = &document["paths"][path]["post"];
        operation["responses"]["400"]["content"]["application/json"]["schema"]["$ref"].clone()
    };
    assert_eq!(errors("/v1/embeddings"), "#/components/schemas/Error");
    assert_eq!(errors("/api/chat"), "#/components/schemas/OllamaError");
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_are_whole_are_taken_as_such() {
    let world = World::new().await;
    let body = json!({"model": "hub-guide", "prompt": "a", "max_tokens": 2.0, "n": 1.0});
    let usage = world.post("/v1/completions", &body).await.json(200)["usage"].clone();
    assert!(usage["completion_tokens"].as_u64().unwrap() <= 2);
}
