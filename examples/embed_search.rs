//! Search by meaning, without a database: `cargo ex embed_search MODEL_FOLDER QUERY < passages.txt`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::io;

use hub_models::{EmbedOptions, EmbeddingModel, Input, LoadOptions};

const USAGE: &str = "usage: cargo ex embed_search MODEL_FOLDER QUERY < passages.txt

No embedding model yet? This fetches one of 90 MB and prints its folder as `from`:
  hub pull hf:sentence-transformers/all-MiniLM-L6-v2 --name minilm && hub show minilm";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(folder), Some(query)) = (args.next(), args.next()) else {
        println!("{USAGE}");
        return Ok(());
    };
    let model = EmbeddingModel::open(folder.as_str(), LoadOptions::default())?;
    let passages = io::stdin().lines().collect::<Result<Vec<String>, _>>()?;

    let inputs = std::iter::once(query).chain(passages.iter().cloned()).map(Input::from).collect();
    let vectors = model.embed(inputs, EmbedOptions::default())?.vectors;
    let Some((query, vectors)) = vectors.split_first() else { return Ok(()) };

    // The vectors have length one, so their product is the cosine of the angle between them.
    let cosine = |vector: &Vec<f32>| query.iter().zip(vector).map(|(a, b)| a * b).sum::<f32>();
    let mut ranked: Vec<(f32, &String)> = vectors.iter().map(cosine).zip(&passages).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (score, passage) in ranked.iter().take(5) {
        println!("{score:.3}  {passage}");
    }
    Ok(())
}
