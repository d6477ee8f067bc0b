use std::{sync::Arc, time::Instant};

use hub_nn::{
    Error as NnError, Priority,
    executor::{Input, Output, Outputs, Segment, Want},
    tokens::Tokenizer,
};

use super::{
    plan::{View, plan},
    sequence::Sequence,
    thread::Thread,
};
use crate::{
    Delta, Error, FinishReason, TokenLogprob,
    options::EndTokens,
    sample::{self, Sampled},
};

/// The most rows of one step whose logits are all wanted: a vocabulary is wide.
const LOGPROB_ROWS: usize = 32;

impl Thread {
    /// Runs one step: one forward over the rows of all sequences that can move, and one token for each that is done
    /// with its prompt.
    pub(super) fn step(&mut self) {
        self.restart_stale();
        let mut rows = self.plan();
        self.make_room(&mut rows);
        if rows.iter().all(|count| *count == 0) {
            return self.rest();
        }
        let now = Instant::now();
        for (sequence, _) in self.sequences.iter().zip(&rows).filter(|(_, count)| **count > 0) {
            if let Some(running) = self.running.get_mut(&sequence.request) {
                running.started.get_or_insert(now);
            }
        }
        let mut output = std::mem::take(&mut self.output);
        match self.forward(&rows, &mut output) {
            Ok(()) => self.take(&rows, &output),
            Err(error) => {
                let error = Arc::new(error);
                let mut ids: Vec<u64> = self.sequences.iter().map(|sequence| sequence.request).collect();
                ids.dedup();
                for id in ids {
                    self.end(id, Some(Error::Step { source: Arc::clone(&error) }));
                }
            }
        }
        self.output = output;
    }

    /// Sends sequences back to their first token that have grown past a length where all they cached became stale.
    fn restart_stale(&mut self) {
        let Some(executor) = &mut self.executor else { return };
        let Some(limit) = executor.spec().restart_tokens() else { return };
        for sequence in &mut self.sequences {
            if sequence.state.tokens() > 0 && sequence.span <= limit && sequence.tokens.len() > limit {
                executor.rewind(&mut sequence.state, 0);
            }
        }
    }

    fn plan(&self) -> Vec<usize> {
        let running = |sequence: &Sequence| self.running.get(&sequence.request);
        let views = self.sequences.iter().map(|sequence| View {
            pending: sequence.pending(),
            is_readable: running(sequence).is_some_and(|running| running.is_readable()),
        });
        let views: Vec<View> = views.collect();
        let mut rows = plan(&views, self.settings.prefill_tokens);
        let mut left = LOGPROB_ROWS;
        for (sequence, count) in self.sequences.iter().zip(&mut rows) {
            if self.reports_prompt(sequence) {
                *count = (*count).min(left);
                left -= *count;
            }
        }
        rows
    }

    /// Makes room for the rows of a step. Where memory is short, the youngest sequence gives its own back and is
    /// parked; the last one left fails with the numbers.
    fn make_room(&mut self, rows: &mut Vec<usize>) {
        let mut index = 0;
        while index < rows.len() {
            let Some(executor) = &mut self.executor else { return rows.clear() };
            let Err(error) = executor.append(&mut self.sequences[index].state, rows[index]) else {
                index += 1;
                continue;
            };
            if self.sequences.len() == 1 {
                let id = self.sequences[index].request;
                rows.clear();
                return self.end(id, Some(Error::from(error)));
            }
            tracing::debug!(%error, "the youngest sequence steps back");
            self.park_youngest();
            rows.truncate(self.sequences.len());
        }
    }

    fn park_youngest(&mut self) {
        if let (Some(mut sequence), Some(executor)) = (self.sequences.pop(), &mut self.executor) {
            executor.release(std::mem::take(&mut sequence.state));
            self.parked.push_front(sequence);
        }
    }

    fn forward(&mut self, rows: &[usize], output: &mut Output) -> Result<(), NnError> {
        let Some(executor) = &mut self.executor else { return Ok(()) };
        let mut priority = Priority::Background;
        let mut segments = Vec::with_capacity(rows.len());
        for (sequence, &count) in self.sequences.iter_mut().zip(rows).filter(|(_, count)| **count > 0) {
            let Some(running) = self.running.get(&sequence.request) else { continue };
            priority = priority.max(running.request.priority);
            let computed = sequence.state.tokens();
            sequence.span = sequence.tokens.len();
            let reports = running.request.prompt_logprobs.is_some();
            let outputs = if reports && sequence.reported.len() < sequence.prompt_tokens {
                Outputs::All
            } else if computed + count == sequence.tokens.len() {
                Outputs::Last
            } else {
                Outputs::None
            };
            segments.push(Segment {
                input: Input::Tokens(&sequence.tokens[computed..computed + count]),
                state: Some(&mut sequence.state),
                outputs,
                span: sequence.span,
            });
        }
        let layers = 0..executor.spec().layers.len();
        self.stats.step(rows.iter().sum());
        executor.run_into(layers, &mut segments, Want::Head, priority, output)
    }

    /// Takes the rows of a step apart, sequence by sequence: reports prompts, draws tokens, sends text.
    fn take(&mut self, rows: &[usize], output: &Output) {
        let mut logits = output.rows();
        for (mut sequence, &count) in std::mem::take(&mut self.sequences).into_iter().zip(rows) {
            // A sibling has failed in this very step, and the request with it.
            if !self.running.contains_key(&sequence.request) {
                self.release(sequence);
                continue;
            }
            if count == 0 {
                self.sequences.push(sequence);
                continue;
            }
            let is_complete = sequence.pending() == 0;
            let reports = self.reports_prompt(&sequence);
            let own: Vec<&[f32]> =
                logits.by_ref().take(if reports { count } else { usize::from(is_complete) }).collect();
            if reports {
                self.report_prompt(&mut sequence, &own);
            }
            match own.last() {
                Some(last) if is_complete => self.draw(sequence, last),
                _ => self.sequences.push(sequence),
            }
        }
    }

    /// Draws the next token of a sequence, and the first ones of its siblings if it has just read its prompt.
    fn draw(&mut self, sequence: Sequence, logits: &[f32]) {
        let siblings = self.siblings(&sequence);
        for mut sequence in std::iter::once(sequence).chain(siblings) {
            match self.advance(&mut sequence, logits) {
                Ok(true) => self.sequences.push(sequence),
                Ok(false) => self.release(sequence),
                Err(error) => {
                    let id = sequence.request;
                    self.release(sequence);
                    self.end(id, Some(error));
                }
            }
        }
    }

    /// Forks the other choices of a request from the first, which has just read their common prompt.
    fn siblings(&mut self, first: &Sequence) -> Vec<Sequence> {
        let (Some(running), Some(executor)) = (self.running.get(&first.request), &mut self.executor) else {
            return Vec::new();
        };
        if first.choice != 0 || first.generated() != 0 {
            return Vec::new();
        }
        let choices = 1..running.request.choices.get() as usize;
        let fork =
            |choice| first.sibling(choice, executor.fork(&first.state), &running.request, &self.settings);
        choices.map(fork).collect()
    }

    /// Draws a token if one was asked for; false once the choice has ended.
    fn advance(&mut self, sequence: &mut Sequence, logits: &[f32]) -> Result<bool, Error> {
        let Some(running) = self.running.get_mut(&sequence.request) else { return Ok(false) };
        if running.request.max_tokens > 0 {
            return self.next_token(sequence, logits);
        }
        // Only the prompt was to be read.
        let (choice, finish) = (sequence.choice, Some(FinishReason::Length));
        let usage = running.close_choice(Instant::now());
        running.send(Delta { choice, finish, usage, ..Delta::default() });
        if usage.is_some() {
            self.end(sequence.request, None);
        }
        Ok(false)
    }

    /// Draws one token and sends the text it completes; false once the choice has ended.
    fn next_token(&mut self, sequence: &mut Sequence, logits: &[f32]) -> Result<bool, Error> {
        let Some(running) = self.running.get_mut(&sequence.request) else { return Ok(false) };
        let end_tokens = self.settings.end_tokens.as_slice();
        let request = &running.request;
        let may_end = request.end == EndTokens::Stop && sequence.generated() >= request.min_tokens;
        let forbidden = if may_end { &[] } else { end_tokens };
        let sampled = sequence.sampler.next(logits, forbidden, request.logprobs)?;
        let now = Instant::now();
        self.stats.generate();
        running.count_token(now);
        sequence.tokens.push(sampled.id);

        let mut delta = Delta { choice: sequence.choice, ..Delta::default() };
        if may_end && end_tokens.contains(&sampled.id) {
            sequence.close(Some(sampled.id), &mut delta);
            delta.finish = Some(FinishReason::Stop);
        } else {
            let is_stopped = sequence.read(sampled.id, &running.request, &mut delta);
            delta.logprobs = named(sampled, &self.settings.tokenizer).into_iter().collect();
            if is_stopped {
                delta.finish = Some(FinishReason::Stop);
            } else if sequence.generated() >= running.request.max_tokens
                || sequence.tokens.len() >= self.settings.context_tokens
            {
                sequence.close(None, &mut delta);
                delta.finish = Some(FinishReason::Length);
            }
        }
        let is_open = delta.finish.is_none();
        if !is_open {
            delta.usage = running.close_choice(now);
        }
        let is_last = delta.usage.is_some();
        let is_empty = delta.text.is_empty() && delta.reasoning.is_empty() && delta.call.is_empty();
        if !is_open || !is_empty || !delta.logprobs.is_empty() {
            running.send(delta);
        }
        if is_last {
            self.end(sequence.request, None);
        }
        Ok(is_open)
    }

    fn reports_prompt(&self, sequence: &Sequence) -> bool {
        let asks = |running: &super::request::Running| running.request.prompt_logprobs.is_some();
        sequence.choice == 0
            && sequence.reported.len() < sequence.prompt_tokens
            && self.running.get(&sequence.request).is_some_and(asks)
    }

    /// Notes the probabilities of the prompt's tokens that the rows of this step foretell, and sends all of them once
    /// they are known.
    fn report_prompt(&self, sequence: &mut Sequence, logits: &[&[f32]]) {
        let Some(running) = self.running.get(&sequence.request) else { return };
        let Some(top) = running.request.prompt_logprobs else { return };
        let tokenizer = &self.settings.tokenizer;
        if sequence.reported.is_empty() {
            let id = sequence.tokens[0];
            let bytes = tokenizer.token_bytes(id);
            sequence.reported.push(TokenLogprob { id, bytes, logprob: f32::NAN, top: Vec::new() });
        }
        // The row at position p foretells the token at p + 1; rows computed again are not reported again.
        let first = sequence.state.tokens() - logits.len();
        for (row, logits) in logits.iter().enumerate() {
            let position = first + row + 1;
            if position == sequence.reported.len() && position < sequence.prompt_tokens {
                let sampled = sample::logprobs(logits, sequence.tokens[position], top);
                sequence.reported.extend(named(sampled, tokenizer));
            }
        }
        if sequence.reported.len() == sequence.prompt_tokens {
            running.send(Delta { prompt_logprobs: sequence.reported.clone(), ..Delta::default() });
        }
    }
}

/// Gives a token and its rivals their bytes; nothing if no probabilities were asked for.
fn named(sampled: Sampled, tokenizer: &Tokenizer) -> Option<TokenLogprob> {
    let entry = |id, logprob, top| TokenLogprob { id, bytes: tokenizer.token_bytes(id), logprob, top };
    let top = sampled.top.into_iter().map(|(id, logprob)| entry(id, logprob, Vec::new())).collect();
    sampled.logprob.map(|logprob| entry(sampled.id, logprob, top))
}
