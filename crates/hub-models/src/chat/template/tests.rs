use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hub_base::ErrorKind;
use serde_json::{Map, json};

use super::{Message, PromptEnd, RenderOptions, Role, Template, TemplateError, TemplateTokens};

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_000_000_000)
}

fn render(source: &str, messages: &[Message]) -> Result<String, TemplateError> {
    Template::compile(source, TemplateTokens::default())?.render(messages, &RenderOptions::new(now()))
}

#[track_caller]
fn check(source: &str, expected: &str) {
    assert_eq!(render(source, &[Message::user("hi")]).as_deref(), Ok(expected));
}

#[track_caller]
fn fails(source: &str, is_expected: fn(&TemplateError) -> bool) {
    let error = render(source, &[Message::user("hi")]).unwrap_err();
    assert!(is_expected(&error), "{error:?}");
}

#[test]
fn a_damaged_template_names_its_line() {
    let error = render("a\nb\n{% if %}", &[]).unwrap_err();
    assert!(matches!(&error, TemplateError::Syntax { line: 3, .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn a_refusal_is_told_in_the_templates_words() {
    let source =
        "{% macro refuse() %}{{ raise_exception('no ' + messages[0].role) }}{% endmacro %}{{ refuse() }}";
    let error = render(source, &[Message::user("hi")]).unwrap_err();
    assert_eq!(error, TemplateError::Raised { message: "no user".to_owned() });
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn what_cannot_be_done_names_its_line() {
    fails("\n{{ messages[7].content }}", |error| matches!(error, TemplateError::Render { line: 2, .. }));
    fails("{{ messages.append(1) }}", |error| matches!(error, TemplateError::Render { line: 1, .. }));
    fails("{% include 'other' %}", |error| matches!(error, TemplateError::Render { .. }));
}

#[test]
fn work_without_end_is_stopped() {
    for source in [
        "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
        "{% for a in [[[]]] recursive %}{{ loop([a]) }}{% endfor %}",
    ] {
        fails(source, |error| *error == TemplateError::TooMuchWork);
    }
}

#[test]
fn text_without_end_is_stopped() {
    for source in [
        "{% for a in range(100000) %}{{ 'x' * 10000 }}{% endfor %}",
        "{{ 'x' * 9999999999 }}",
        "{{ [1]|tojson(indent=999999999999) }}",
        "{{ [[[[1]]]]|tojson(indent=20000000) }}",
        "{{ 'a'|indent(999999999999) }}",
        "{{ ('a\\n' * 1000)|indent(1000000) }}",
        "{% set x = 'x' * 1000000 %}{{ ([1] * 100000)|join(x) }}",
        "{% set ns = namespace(x=['x' * 100]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    ] {
        fails(source, |error| *error == TemplateError::TooMuchWork);
    }
}

#[test]
fn values_that_nest_without_end_are_stopped() {
    let nest = "{% set ns = namespace(x=[]) %}{% for i in range(300) %}{% set ns.x = [ns.x] %}{% endfor %}";
    for end in ["{{ ns.x }}", "{{ ns.x|tojson }}", "{{ ns.x|string }}"] {
        fails(&format!("{nest}{end}"), |error| *error == TemplateError::TooMuchWork);
    }
}

#[test]
fn each_way_to_end() {
    let template =
        Template::compile("{{ 'open' if add_generation_prompt else 'closed' }}", TemplateTokens::default())
            .unwrap();
    let options = RenderOptions::new(now());
    assert_eq!(template.render(&[], &options).as_deref(), Ok("open"));
    assert_eq!(template.render(&[], &options.end(PromptEnd::LastMessage)).as_deref(), Ok("closed"));
}

#[test]
fn developers_speak_as_the_system_to_templates_that_do_not_know_them() {
    let messages = [Message::new(Role::Developer, "x")];
    assert_eq!(render("{{ messages[0].role }}", &messages).as_deref(), Ok("system"));
    let knows = "{{ messages[0].role }}{% if messages[0].role == 'developer' %}!{% endif %}";
    assert_eq!(render(knows, &messages).as_deref(), Ok("developer!"));
}

#[test]
fn reasoning_has_every_name_that_templates_read() {
    let messages = [Message::assistant("4").reasoning("2 + 2").name("Hub")];
    let source = "{{ messages[0].thinking }}|{{ messages[0].reasoning_content }}|{{ messages[0].name }}";
    assert_eq!(render(source, &messages).as_deref(), Ok("2 + 2|2 + 2|Hub"));
}

#[test]
fn keyword_arguments_win_over_tokens_and_never_hide_the_conversation() {
    let template =
        Template::compile("{{ bos_token }}{{ x }}", TemplateTokens::new([("bos_token", "<s>")])).unwrap();
    let options = |kwargs: serde_json::Value| {
        RenderOptions::new(now()).kwargs(kwargs.as_object().cloned().unwrap_or_else(Map::new))
    };
    assert_eq!(template.render(&[], &options(json!({"x": 1}))).as_deref(), Ok("<s>1"));
    assert_eq!(template.render(&[], &options(json!({"bos_token": "", "x": 2}))).as_deref(), Ok("2"));
    let error = template.render(&[], &options(json!({"messages": []}))).unwrap_err();
    assert_eq!(error, TemplateError::Reserved { name: "messages".to_owned() });
}

#[test]
fn time_is_what_the_caller_says() {
    check("{{ strftime_now('%Y-%m-%d %H:%M:%S') }}", "2001-09-09 01:46:40");
    fails("{{ strftime_now('%Q') }}", |error| matches!(error, TemplateError::Render { .. }));
    fails("{{ strftime_now('%') }}", |error| matches!(error, TemplateError::Render { .. }));
}

#[test]
fn a_template_can_be_shared_between_threads() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Template>();
}
