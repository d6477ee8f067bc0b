//! What is wanted of the rows that went through the layers.

use hub_kernels::{Forms, Function, Isa, apply, multiply};

use super::{Pending, Step};
use crate::executor::cpu::{Linear, ModelHead, Norm, layer::maybe, plan::Scratch, pooled::beside};
use crate::executor::{Output, Want};

/// How many logits a thread bends at once.
const LOGITS: usize = 4096;

impl Step<'_> {
    /// Computes what is wanted of the rows that are left.
    pub(super) fn finish(
        &self,
        scratch: &mut Scratch,
        rows: usize,
        pending: Option<Pending<'_>>,
        is_last: bool,
        want: Want,
        output: &mut Output,
    ) {
        let width = self.spec.hidden_size;
        let norm = self.model.final_norm.as_ref().filter(|_| is_last);
        match (&self.model.head, want) {
            (_, Want::Hidden) | (ModelHead::None, Want::Head) => {
                self.norm_last(scratch, rows, pending, norm);
                output.plan(rows, width).copy_from_slice(&scratch.x[..rows * width]);
            }
            (ModelHead::Logits { linear, scale, soft_cap }, Want::Head) => {
                self.norm_in(scratch, rows, pending, norm, Linear::forms([linear]));
                let logits = output.plan(rows, linear.rows());
                multiply(&mut [linear.product(&scratch.inputs, logits)], self.cpu);
                if *scale != 1.0 || soft_cap.is_some() {
                    let cap =
                        |_, logits: &mut [f32]| scale_and_cap(logits, *scale, *soft_cap, self.cpu.isa());
                    self.cpu.each_chunk(logits, LOGITS, cap);
                }
            }
            (ModelHead::Pooled(pooled), Want::Head) => {
                self.norm_last(scratch, rows, pending, norm);
                let counts = self.segments.iter().zip(self.places);
                let counts = counts.map(|(segment, place)| segment.outputs.range(place.count).len());
                pooled.run(&scratch.x[..rows * width], counts, output, self.cpu);
            }
            (ModelHead::Beside(linears), Want::Head) => {
                self.norm_last(scratch, rows, pending, norm);
                beside(linears, &scratch.x[..rows * width], width, output, self.cpu);
            }
        }
    }

    /// Takes in what the last sublayer returned, and normalises rows in place.
    pub(super) fn norm_last(
        &self,
        scratch: &mut Scratch,
        rows: usize,
        pending: Option<Pending<'_>>,
        norm: Option<&Norm>,
    ) {
        let width = self.spec.hidden_size;
        self.norm_in(scratch, rows, pending, None, Forms::default());
        let x = &mut scratch.x[..rows * width];
        self.cpu.each_chunk(x, width, |_, row| maybe(norm, row, self.cpu.isa()));
    }
}

/// Scales logits, and bends them so that none passes the cap.
fn scale_and_cap(logits: &mut [f32], scale: f32, cap: Option<f32>, isa: Isa) {
    let Some(cap) = cap else {
        logits.iter_mut().for_each(|logit| *logit *= scale);
        return;
    };
    logits.iter_mut().for_each(|logit| *logit *= scale / cap);
    apply(Function::Tanh, logits, isa);
    logits.iter_mut().for_each(|logit| *logit *= cap);
}
