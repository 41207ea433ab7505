//! Ways to answer, and how they do on documents of several lengths.

use std::time::Instant;

use anyhow::Result;
use candle_core::DType;
use hypernn::GeneratedParams;
use hypernn_examples::train::mean;
use hypernn_models::Decoder;
use serde::Serialize;

use crate::language::Document;
use crate::model::{Reader, cache_bytes};
use crate::run::{LONGEST, Purpose, Run};

/// The lengths of test documents, in those of the longest of the training.
pub const LENGTHS: [usize; 3] = [1, 2, 4];

/// Test documents of each length.
const TESTED: usize = 200;

/// What documents of one length show.
#[derive(Clone, Debug, Serialize)]
pub struct Tested {
    /// The tokens of a document, at most; the shortest has three quarters of them.
    pub tokens: usize,
    /// The share of right answers of the model without the document.
    pub without: f64,
    /// With the document in the prompt.
    pub prompted: f64,
    /// With an adapter of the document.
    pub adapted: f64,
    /// With an adapter of another document.
    pub adapted_by_another: f64,
    /// The seconds that it takes to read a document and to write its adapter.
    pub seconds: f64,
    /// The bytes of an adapter.
    pub adapter_bytes: f64,
    /// The bytes of keys and values that the document would take in the cache.
    pub cache_bytes: f64,
}

impl Run {
    /// Compares all ways, length by length.
    ///
    /// # Errors
    /// candle's own.
    pub fn test(&self, reader: &Reader) -> Result<Vec<Tested>> {
        LENGTHS.iter().map(|times| self.tested(reader, times * LONGEST)).collect()
    }

    fn tested(&self, reader: &Reader, tokens: usize) -> Result<Tested> {
        let documents =
            self.documents(Purpose::Test, 0, self.few(TESTED), (tokens * 3 / 4, tokens));
        let (seconds, adapter_bytes) = self.costs(reader, &documents)?;
        let decoder = &reader.decoder;
        let caches = documents
            .iter()
            .map(|document| cache_bytes(decoder.config(), document.tokens().len()) as f64);
        Ok(Tested {
            tokens,
            without: self.right(&documents, |batch| batch.alone(decoder))?,
            prompted: self.right(&documents, |batch| batch.prompted(decoder))?,
            adapted: self.recall(reader, &documents)?,
            adapted_by_another: self.by_another(reader, &documents)?,
            seconds,
            adapter_bytes,
            cache_bytes: mean(caches),
        })
    }

    /// Each document's questions with the adapter of the next one.
    fn by_another(&self, reader: &Reader, documents: &[Document]) -> Result<f64> {
        let others = documents.iter().cycle().skip(1);
        let rights = documents.iter().zip(others).map(|(document, other)| {
            let adapted = reader.read(&[other])?.detach().unpack()?;
            self.right(std::slice::from_ref(document), |batch| batch.alone(&adapted))
        });
        Ok(mean(rights.collect::<Result<Vec<_>>>()?))
    }

    /// The mean of the seconds and the bytes of an adapter.
    fn costs(&self, reader: &Reader, documents: &[Document]) -> Result<(f64, f64)> {
        let (mut seconds, mut bytes) = (Vec::new(), Vec::new());
        for document in documents {
            let start = Instant::now();
            let adapter = reader.read(&[document])?.detach();
            self.device.synchronize()?;
            seconds.push(start.elapsed().as_secs_f64());
            bytes.push(size(&adapter) as f64);
        }
        Ok((mean(seconds), mean(bytes)))
    }
}

/// The bytes of an adapter.
fn size(adapter: &GeneratedParams<Decoder>) -> usize {
    adapter.layout().num_params() * DType::F32.size_in_bytes()
}
