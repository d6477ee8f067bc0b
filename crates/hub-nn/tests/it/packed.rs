//! Weights packed by hub-kernels against the same bytes as this crate reads them.

use hub_kernels::{Kind, Packed};
use hub_nn::weights::{RawTensor, WeightKind};

#[test]
fn packed_weights_are_the_same_numbers() {
    let (rows, cols) = (19, 512);
    let values: Vec<f32> = (0..rows * cols).map(|at| ((at * 37 % 101) as f32 - 50.0) / 40.0).collect();
    let plain = RawTensor::from_f32(vec![rows, cols], &values).unwrap();
    for (kind, packed) in [
        (WeightKind::Q4_0, Kind::Q4_0),
        (WeightKind::Q4_1, Kind::Q4_1),
        (WeightKind::Q5_0, Kind::Q5_0),
        (WeightKind::Q5_1, Kind::Q5_1),
        (WeightKind::Q8_0, Kind::Q8_0),
        (WeightKind::Q2K, Kind::Q2K),
        (WeightKind::Q3K, Kind::Q3K),
        (WeightKind::Q4K, Kind::Q4K),
        (WeightKind::Q5K, Kind::Q5K),
        (WeightKind::Q6K, Kind::Q6K),
    ] {
        let tensor = plain.quantize(kind).unwrap();
        let expected = tensor.to_f32().unwrap();
        let weights = Packed::pack(packed, rows, cols, &tensor.bytes).unwrap();
        let mut row_numbers = vec![0.0; cols];
        for (row, expected) in expected.chunks_exact(cols).enumerate() {
            weights.unpack(row, &mut row_numbers);
            for (found, expected) in row_numbers.iter().zip(expected) {
                // Shifts are taken off before or after the scale: the last bits differ.
                assert!((found - expected).abs() <= 1e-6, "{kind:?}, row {row}: {found} for {expected}");
            }
        }
    }
}
