//! Several ranks for an example: threads, or processes that MPI starts.

use anyhow::Result;
use hypernn::parallel::{AllReduce, Threads};

/// The option of examples that several ranks can train; flatten it into its own.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Ranks {
    /// Train by so many ranks: processes that `mpiexec` starts, in a build with `--features mpi`, else threads
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    pub ranks: Option<u16>,
}

impl Ranks {
    /// Runs what each rank does. A process that `mpiexec` or `srun` has started is one of the ranks; otherwise this
    /// program is started anew by `mpiexec`, or the ranks are threads.
    ///
    /// # Errors
    /// That of a rank, another number of ranks than was asked for, or `mpiexec` can't be started.
    pub fn run(self, rank: impl Fn(&dyn AllReduce) -> Result<()> + Sync) -> Result<()> {
        #[cfg(feature = "mpi")]
        if let Some(result) = self.run_by_mpi(&rank) {
            return result;
        }
        Threads::run(self.ranks.map_or(1, usize::from), |own| rank(own)).map(drop)
    }

    /// None for a single rank that nobody has started as one.
    #[cfg(feature = "mpi")]
    fn run_by_mpi(self, rank: impl Fn(&dyn AllReduce) -> Result<()>) -> Option<Result<()>> {
        if is_started_as_rank() {
            return Some(hypernn::parallel::Mpi::run(|own| {
                let (found, expected) = (own.size(), self.ranks.map(usize::from));
                anyhow::ensure!(
                    expected.is_none_or(|expected| expected == found),
                    "--ranks {} was asked for, but {found} ranks were started",
                    expected.unwrap_or_default()
                );
                rank(own)
            }));
        }
        self.ranks.filter(|&ranks| ranks > 1).map(start_anew)
    }
}

/// What MPICH, Open MPI and Slurm tell the processes that they start.
#[cfg(feature = "mpi")]
fn is_started_as_rank() -> bool {
    ["PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID"]
        .iter()
        .any(|name| std::env::var_os(name).is_some())
}

/// This program by `mpiexec`, with the same arguments. The cores are shared out among the ranks.
#[cfg(feature = "mpi")]
fn start_anew(ranks: u16) -> Result<()> {
    use anyhow::Context;

    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut command = std::process::Command::new("mpiexec");
    command.args(["-n", &ranks.to_string()]).arg(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1));
    if std::env::var_os("RAYON_NUM_THREADS").is_none() {
        command.env("RAYON_NUM_THREADS", (cores / usize::from(ranks)).max(1).to_string());
    }
    let status = command.status().context("cannot start `mpiexec`, which comes with MPI")?;
    anyhow::ensure!(status.success(), "`mpiexec` ended with {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn without_mpi_ranks_are_threads() -> Result<()> {
        for (ranks, expected) in [(None, vec![(0, 1)]), (Some(2), vec![(0, 2), (1, 2)])] {
            if cfg!(feature = "mpi") && ranks.is_some() {
                continue; // The harness would be started by `mpiexec`.
            }
            let seen = Mutex::new(Vec::new());
            Ranks { ranks }.run(|rank| {
                let mut seen = seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                seen.push((rank.rank(), rank.size()));
                Ok(())
            })?;
            let mut seen = seen.into_inner()?;
            seen.sort_unstable();
            assert_eq!(seen, expected);
        }
        Ok(())
    }
}
