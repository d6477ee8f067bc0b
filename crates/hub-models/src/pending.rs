use std::fmt;

use crate::{
    Error,
    encoder::{Answer, Encoder},
};

/// What an encoder was asked for and has not answered yet. Dropping it withdraws the request.
pub struct Pending<T> {
    answer: Answer,
    finish: Box<dyn FnOnce(Vec<Vec<f32>>) -> T + Send>,
    /// Keeps the model's thread alive until it has answered.
    _encoder: Encoder,
}

impl<T> Pending<T> {
    pub(crate) fn new(
        answer: Answer,
        encoder: &Encoder,
        finish: impl FnOnce(Vec<Vec<f32>>) -> T + Send + 'static,
    ) -> Self {
        Self { answer, finish: Box::new(finish), _encoder: encoder.clone() }
    }

    /// Blocks until the answer is there.
    ///
    /// # Errors
    /// What the model failed of, or [`Error::Cancelled`].
    pub fn wait(self) -> Result<T, Error> {
        let made = self.answer.recv_blocking().unwrap_or(Err(Error::ModelGone))?;
        Ok((self.finish)(made))
    }

    /// Waits for the answer without blocking.
    ///
    /// # Errors
    /// As [`Pending::wait`].
    pub async fn ready(self) -> Result<T, Error> {
        let made = self.answer.recv().await.unwrap_or(Err(Error::ModelGone))?;
        Ok((self.finish)(made))
    }
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pending")
    }
}
