//! Renders chat templates where they can harm nothing.
//!
//! A template comes with a model's files and is a program. The template engine bounds its steps and its output, and
//! neither what one step may cost (joining a list to itself, sixty times) nor how deep a value nests. So it runs on a
//! thread of its own, with room for deep values, and for a bounded time.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{
    Error,
    chat::{Message, RenderOptions, Template, TemplateError},
};

/// Real templates take a millisecond; the longest conversations some tens.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reserved, not used, until a value nests that deep: dropping one takes a frame a level, of some hundred bytes in a
/// debug build, and the template's work bounds the levels.
const STACK_BYTES: usize = 256 << 20;

/// A model's chat template, and whether it was ever given up.
#[derive(Debug)]
pub(crate) struct Renderer {
    template: Arc<Template>,
    /// Held while it renders, so that a template which never ends takes one thread and not one for each who asks.
    turn: Mutex<()>,
    /// A thread that was given up cannot be ended, so a template gets no second chance to lose one.
    is_lost: AtomicBool,
}

impl Renderer {
    pub(crate) fn new(template: Template) -> Self {
        Self { template: Arc::new(template), turn: Mutex::default(), is_lost: AtomicBool::new(false) }
    }

    /// Renders a conversation to the text the model reads.
    ///
    /// # Errors
    /// [`Error::Template`]; [`TemplateError::TooMuchWork`] if the template does not come to an end in time.
    pub(crate) fn render(&self, messages: &[Message], options: RenderOptions) -> Result<String, Error> {
        let messages = messages.to_vec();
        self.run(move |template| template.render(&messages, &options))
    }

    /// Renders messages given as JSON.
    ///
    /// # Errors
    /// As [`render`](Self::render).
    pub(crate) fn render_values(
        &self,
        messages: Vec<Value>,
        options: RenderOptions,
    ) -> Result<String, Error> {
        self.run(move |template| template.render_values(messages, &options))
    }

    fn run(
        &self,
        render: impl FnOnce(&Template) -> Result<String, TemplateError> + Send + 'static,
    ) -> Result<String, Error> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_lost.load(Ordering::Relaxed) {
            return Err(TemplateError::TooMuchWork.into());
        }
        let (tx, rx) = mpsc::sync_channel(1);
        let template = Arc::clone(&self.template);
        let work = move || {
            // Nobody listens any more once the patience has ended.
            let _ = tx.send(render(&template));
        };
        let thread = thread::Builder::new().name("chat template".to_owned()).stack_size(STACK_BYTES);
        thread.spawn(work).map_err(|source| Error::Thread { source })?;
        match rx.recv_timeout(PATIENCE) {
            Ok(rendered) => Ok(rendered?),
            Err(RecvTimeoutError::Timeout) => {
                self.is_lost.store(true, Ordering::Relaxed);
                tracing::warn!("a chat template did not come to an end; it is not asked again");
                Err(TemplateError::TooMuchWork.into())
            }
            Err(RecvTimeoutError::Disconnected) => Err(TemplateError::TooMuchWork.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::chat::TemplateTokens;

    #[test]
    fn a_template_that_nests_to_its_limit_overflows_no_stack() {
        let source = "{% set n = namespace(x=[]) %}{% for j in range(30) %}{% for i in range(90000) %}\
                      {% set n.x = [n.x] %}{% endfor %}{% endfor %}";
        let none: [(&str, &str); 0] = [];
        let renderer = Renderer::new(Template::compile(source, TemplateTokens::new(none)).unwrap());
        let rendered = renderer.render(&[Message::user("hi")], RenderOptions::new(SystemTime::UNIX_EPOCH));
        assert!(matches!(rendered, Err(Error::Template(_))), "{rendered:?}");
    }

    #[test]
    fn a_template_whose_single_steps_never_end_is_given_up_once() {
        let source = "{% set n = namespace(x=[1]) %}{% for a in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}\
                      {{ n.x|length }}";
        let none: [(&str, &str); 0] = [];
        let renderer = Renderer::new(Template::compile(source, TemplateTokens::new(none)).unwrap());
        for _ in 0..2 {
            let rendered =
                renderer.render(&[Message::user("hi")], RenderOptions::new(SystemTime::UNIX_EPOCH));
            assert!(matches!(rendered, Err(Error::Template(TemplateError::TooMuchWork))), "{rendered:?}");
        }
    }
}
