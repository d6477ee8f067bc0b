//! Loading matrices: packed as they are read, or as an earlier load packed them.

use std::{ops::Range, sync::Arc};

use hub_kernels::{Kind, Packed, TILE, quantize_alone};

use super::super::{
    Linear, Table,
    layer::Stack,
    packing::{Packs, turned_kind},
};
use super::{Loader, missing};
use crate::{
    Error,
    spec::{LinearSpec, TensorRef},
    weights::{PackedFile, PackedPlace, RawTensor, Stamp, Weights},
};

impl Loader<'_> {
    /// Packs matrices as one that lie in the files turned over, `[inputs, outputs]`.
    pub(super) fn turned(&mut self, matrices: &[LinearSpec]) -> Result<Stack, Error> {
        let Some(first) = matrices.first() else { return Err(missing("heads")) };
        let (rows, cols) = (first.outputs, first.inputs);
        let name = first.weight.name.as_str();
        let kind = turned_kind(self.weights.info(name).ok_or_else(|| missing(name))?);
        let each = rows.next_multiple_of(TILE);
        let number_bytes = kind.block_bytes();
        let mut bytes = vec![0; matrices.len() * each * cols * number_bytes];
        for (linear, out) in matrices.iter().zip(bytes.chunks_exact_mut(each * cols * number_bytes)) {
            self.check_cancelled()?;
            let raw = self.weights.read_part(&linear.weight)?;
            self.report(raw.bytes.len());
            // Of blocks only what they mean can be turned over.
            let raw = match raw.kind.to_kernels() {
                Some(own) if own == kind => raw.bytes,
                _ => raw.to_f32()?.iter().flat_map(|number| number.to_le_bytes()).collect(),
            };
            for (place, number) in raw.chunks_exact(number_bytes).enumerate() {
                let (input, output) = (place / rows, place % rows);
                let at = (output * cols + input) * number_bytes;
                out[at..at + number_bytes].copy_from_slice(number);
            }
        }
        let packed = Packed::pack(kind, matrices.len() * each, cols, &bytes)?;
        Ok(Stack { matrix: Arc::new(packed), rows, bias: None })
    }

    /// Packs one matrix of each expert, or of each head, as one: they lie in one tensor, or in one each.
    pub(super) fn stack<T: Sync>(
        &mut self,
        experts: &[T],
        part: impl Fn(&T) -> &LinearSpec + Sync,
    ) -> Result<Stack, Error> {
        let Some(first) = experts.first().map(&part) else { return Err(missing("experts")) };
        let (name, rows, cols) = (first.weight.name.as_str(), first.outputs, first.inputs);
        let packs = self.packing.kind(name, self.weights.info(name).ok_or_else(|| missing(name))?);
        for tensor in experts.iter().map(|expert| &part(expert).weight) {
            let info = self.weights.info(&tensor.name).ok_or_else(|| missing(&tensor.name))?;
            if self.packing.kind(&tensor.name, info).kind() != packs.kind() {
                return Err(Error::WeightKind { name: tensor.name.clone(), kind: info.kind.as_str() });
            }
        }
        let each = rows.next_multiple_of(TILE);
        let shape = (each * experts.len(), cols);
        let start = first.weight.rows.map_or(0, |rows| rows.start);
        let key = TensorRef::new(format!("{name} from {start}, {} of them", experts.len()));
        let kept = self.kept_matrix(&key, packs.kind(), shape)?;
        let read = |range: Range<usize>, out: &mut [u8]| {
            let row_bytes = out.len() / range.len().max(1);
            let mut at = range.start;
            while at < range.end {
                let (expert, row) = (at / each, at % each);
                let end = range.end.min((expert + 1) * each);
                let out = &mut out[(at - range.start) * row_bytes..(end - range.start) * row_bytes];
                let (own, padding) = out.split_at_mut((rows.saturating_sub(row)).min(end - at) * row_bytes);
                let count = own.len() / row_bytes.max(1);
                self.read_rows(&part(&experts[expert]).weight, row..row + count, &packs, own)?;
                padding.fill(0);
                at = end;
            }
            Ok::<_, Error>(())
        };
        let packed = match kept {
            Some(packed) => {
                let own = self.weights.info(name).map_or(0, |info| info.bytes_of((rows * cols) as u64));
                self.report(own as usize * experts.len());
                packed
            }
            None => Packed::pack_with(packs.kind(), shape.0, cols, self.cpu, read)?,
        };
        let mut bias = first.bias.is_some().then(Vec::new);
        for expert in experts {
            if let (Some(all), Some(bias)) = (&mut bias, &part(expert).bias) {
                all.extend(self.numbers(bias)?);
            }
        }
        let matrix = Arc::new(packed);
        self.matrices.insert(key, Arc::clone(&matrix));
        Ok(Stack { matrix, rows, bias })
    }

    pub(super) fn table(&self, tensor: &TensorRef, width: usize) -> Result<Table, Error> {
        Ok(Table { width, values: self.numbers(tensor)? })
    }

    pub(super) fn linear(&mut self, linear: &LinearSpec) -> Result<Linear, Error> {
        let matrix = self.matrix(&linear.weight)?;
        let bias = linear.bias.as_ref().map(|bias| self.numbers(bias)).transpose()?;
        Ok(Linear { matrix, bias })
    }

    pub(super) fn matrix(&mut self, tensor: &TensorRef) -> Result<Arc<Packed>, Error> {
        if let Some(known) = self.matrices.get(tensor) {
            return Ok(Arc::clone(known));
        }
        let name = tensor.name.as_str();
        let info = self.weights.info(name).ok_or_else(|| missing(name))?;
        let (rows, cols) = self.weights.part_shape(tensor)?;
        let packs = self.packing.kind(name, info);
        let packed = match self.kept_matrix(tensor, packs.kind(), (rows, cols))? {
            Some(packed) => {
                // Progress counts bytes of the model's own files.
                self.report(info.bytes_of((rows * cols) as u64) as usize);
                packed
            }
            None => Packed::pack_with(packs.kind(), rows, cols, self.cpu, |part, out| {
                self.read_rows(tensor, part, &packs, out)
            })?,
        };
        let packed = Arc::new(packed);
        self.matrices.insert(tensor.clone(), Arc::clone(&packed));
        Ok(packed)
    }

    /// Reads some of a tensor's rows as they are packed.
    pub(super) fn read_rows(
        &self,
        tensor: &TensorRef,
        rows: Range<usize>,
        packs: &Packs,
        out: &mut [u8],
    ) -> Result<(), Error> {
        self.check_cancelled()?;
        if let Packs::AsStored(_) = packs {
            self.weights.read_part_rows_into(tensor, rows, out)?;
            self.report(out.len());
            return Ok(());
        }
        let numbers = self.to_numbers(tensor, &self.weights.read_part_rows(tensor, rows)?)?;
        if let Packs::Rounded(kind) = packs {
            return Ok(quantize_alone(*kind, &numbers, out, self.cpu.isa())?);
        }
        for (out, number) in out.as_chunks_mut().0.iter_mut().zip(numbers) {
            *out = number.to_le_bytes();
        }
        Ok(())
    }

    /// Reads a matrix that an earlier load packed, if it did. A file that lacks one or cannot be read is given up, and
    /// written again at the end.
    pub(super) fn kept_matrix(
        &mut self,
        tensor: &TensorRef,
        kind: Kind,
        shape: (usize, usize),
    ) -> Result<Option<Packed>, Error> {
        let Some(Kept { place, file: Some(file), .. }) = &self.kept else { return Ok(None) };
        let found = match file.read(tensor, kind, shape, self.cpu, || self.check_cancelled()) {
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(error) => {
                tracing::warn!(path = %place.path().display(), %error, "packed weights are packed again");
                None
            }
            Ok(found) => found,
        };
        if found.is_none()
            && let Some(kept) = &mut self.kept
        {
            kept.file = None;
        }
        Ok(found)
    }

    /// Reads a small tensor, or a table that rows are looked up in, into `f32`.
    pub(super) fn numbers(&self, tensor: &TensorRef) -> Result<Vec<f32>, Error> {
        self.check_cancelled()?;
        self.to_numbers(tensor, &self.weights.read_part(tensor)?)
    }

    pub(super) fn to_numbers(&self, tensor: &TensorRef, raw: &RawTensor) -> Result<Vec<f32>, Error> {
        if !(raw.kind.is_float() || raw.kind.is_quantized()) {
            return Err(Error::WeightKind { name: tensor.name.clone(), kind: raw.kind.as_str() });
        }
        self.report(raw.bytes.len());
        Ok(raw.to_f32()?)
    }
}

/// Where a model's packed matrices are kept.
pub(super) struct Kept<'a> {
    pub(super) place: &'a PackedPlace,
    /// What its files were when the load began.
    pub(super) stamps: Vec<Stamp>,
    /// What an earlier load wrote of these files.
    pub(super) file: Option<PackedFile>,
}

impl<'a> Kept<'a> {
    pub(super) fn of(weights: &'a Weights) -> Option<Self> {
        let place = weights.packed_place()?;
        let stamps = Stamp::of_all(weights.meaning_files())?;
        let file = PackedFile::open(place.path(), &stamps);
        Some(Self { place, stamps, file })
    }
}
