//! A learned table of embeddings for each task.

use candle_core::{DType, Result, Tensor};
use candle_nn::VarBuilder;

use super::{ConditionedEmbedding, ConditionedEmbeddingSpec, Embedded, State};
use crate::check::{ensure, product, too_many, zero};
use crate::condition::Condition;
use crate::info::EmbeddingInfo;
use crate::init::{self, InitScheme};
use crate::memory::ensure_room;

/// `embedding: tasks(num_tasks, num_embeddings, embedding_dim)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct TasksSpec {
    num_tasks: usize,
    num_embeddings: usize,
    embedding_dim: usize,
}

/// `embedding: tasks(num_tasks, num_embeddings, embedding_dim)`: a learned table for each task; the
/// condition is the task's number.
///
/// Each task's table is a variable of its own, so that tasks can be added after training while the
/// others stay as they are, bit for bit.
pub const fn tasks(num_tasks: usize, num_embeddings: usize, embedding_dim: usize) -> TasksSpec {
    TasksSpec { num_tasks, num_embeddings, embedding_dim }
}

impl TasksSpec {
    /// The embedding's sizes, and what is wrong with them, if anything; the condition is the number of a task.
    pub const fn info(&self) -> EmbeddingInfo {
        let (rows, width) = (self.num_embeddings, self.embedding_dim);
        let dims = [self.num_tasks, rows, width];
        EmbeddingInfo::new(rows, width)
            .params(product(&dims))
            .condition(Condition::Task)
            .checked(zero("tasks", "num_tasks", self.num_tasks))
            .checked(zero("tasks", "num_embeddings", rows))
            .checked(zero("tasks", "embedding_dim", width))
            .checked(too_many("tasks", &dims))
    }
}

impl std::fmt::Display for TasksSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { num_tasks, num_embeddings, embedding_dim } = self;
        write!(f, "tasks({num_tasks}, {num_embeddings}, {embedding_dim})")
    }
}

#[diagnostic::do_not_recommend]
impl ConditionedEmbeddingSpec for TasksSpec {
    /// The embedding's name in files, without the number of tasks, which may have grown.
    fn in_files(&self) -> String {
        format!("tasks(_, {}, {})", self.num_embeddings, self.embedding_dim)
    }

    /// Variables `0.weight`, `1.weight`, …, one `[N, E]` per task.
    fn build(
        &self,
        scheme: InitScheme,
        vb: VarBuilder<'_>,
    ) -> Result<Box<dyn ConditionedEmbedding>> {
        ensure(self.info().problem)?;
        let mut tasks =
            Tasks { dims: (self.num_embeddings, self.embedding_dim), tables: Vec::new() };
        tasks.add_tasks(self.num_tasks, scheme, vb)?;
        Ok(Box::new(tasks))
    }
}

#[derive(Clone, Debug)]
struct Tasks {
    dims: (usize, usize),
    tables: Vec<Tensor>,
}

impl Tasks {
    fn table(&self, task: i64) -> Result<&Tensor> {
        let table = usize::try_from(task).ok().and_then(|task| self.tables.get(task));
        match table {
            Some(table) => Ok(table),
            None => crate::error::bail!(
                condition,
                "there is no task {task}, expected one of the {} from 0 on",
                self.tables.len()
            ),
        }
    }
}

impl ConditionedEmbedding for Tasks {
    fn forward(&self, condition: &Tensor, state: &State) -> Result<(Embedded, State)> {
        let ids = condition.to_dtype(DType::I64)?.to_vec1::<i64>()?;
        let tables = ids.into_iter().map(|task| self.table(task)).collect::<Result<Vec<_>>>()?;
        Ok((Embedded::PerSet(Tensor::stack(&tables, 0)?), state.clone()))
    }

    fn add_tasks(&mut self, count: usize, scheme: InitScheme, vb: VarBuilder<'_>) -> Result<()> {
        let (rows, width) = self.dims;
        let room = || format!("the table of {count} tasks");
        ensure_room(room, &[count, rows, width], vb.dtype(), vb.device())?;
        let tables = (0..count).map(|i| {
            let vb = vb.pp(self.tables.len() + i);
            init::table(scheme, rows, width, &vb)
        });
        // All or none: a builder may lack some of them.
        let tables = tables.collect::<Result<Vec<_>>>()?;
        self.tables.extend(tables);
        Ok(())
    }
}
