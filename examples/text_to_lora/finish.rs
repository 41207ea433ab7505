//! The run: training, the ways that it is compared with, table and summary.

use anyhow::Result;
use candle_core::{DType, Device};
use hypernn::nn::VarMap;
use hypernn::seeded;
use hypernn_examples::plot::{self, Chart, Line};
use hypernn_examples::report::{percent, table, write_json};
use hypernn_examples::training::History;
use serde::Serialize;

use crate::adapters::{Loras, Shuffled, Unadapted, mean, scores};
use crate::model::{TextToLora, hypernetwork};
use crate::prepared::{Preparation, Prepared};
use crate::run::Run;
use crate::sequences::{Prompt, Writing};
use crate::tasks::Task;
use crate::train::{Trained, train};
use crate::words::Words;

/// A way to answer, with its score in each held-out task.
#[derive(Serialize)]
struct Way {
    name: &'static str,
    /// The share of right answers in each task.
    scores: Vec<f64>,
    /// The course of its training.
    history: Option<History>,
}

/// What `summary.json` holds.
#[derive(Serialize)]
struct Summary<'a> {
    model: &'a str,
    tasks: Vec<String>,
    training_tasks: usize,
    ways: &'a [Way],
    num_params: usize,
    num_adapter_values: usize,
    options: String,
}

/// All that ways to answer are made with.
struct Comparison<'a> {
    run: &'a Run,
    hyper: &'a TextToLora,
    words: &'a Words,
    end: u32,
}

/// Trains and compares.
///
/// # Errors
/// What has to be fetched is not there, or a training fails.
pub fn run(run: &Run) -> Result<()> {
    let model = run.model()?;
    let (name, end) = (model.name, model.end()?);
    let vars = VarMap::new();
    let vb = run.args.run.common.variables(&vars, &Device::Cpu);
    let (hyper, words) = hypernetwork(model, vb)?;
    println!("{hyper:#?}");
    let ways = Comparison { run, hyper: &hyper, words: &words, end }.ways(&vars)?;
    report(run, &hyper, name, &ways)
}

impl Comparison<'_> {
    fn ways(&self, vars: &VarMap) -> Result<Vec<Way>> {
        let mut train = self.prepare(Prompt::Input, &self.run.tasks.train)?;
        let mut validation = self.prepare(Prompt::Input, &self.run.tasks.validation)?;
        let mut held_out = self.prepare(Prompt::Input, &self.run.tasks.held_out)?;
        self.compute([&mut train, &mut validation, &mut held_out])?;
        let generated = self.hypernetwork(vars, &train, &validation)?;
        self.hyper.save(self.run.out.join("text_to_lora.safetensors"))?;
        let shuffled = Shuffled { hyper: self.hyper, tasks: &held_out };
        let of_description = Way {
            name: "a LoRA from the description",
            scores: scores(self.hyper, &held_out, true)?,
            history: Some(generated),
        };
        let of_another = Way {
            name: "a LoRA from another task's description",
            scores: scores(&shuffled, &held_out, true)?,
            history: None,
        };
        let (prompted, shared) = (self.prompted()?, self.shared()?);
        Ok(vec![prompted, shared, of_description, of_another, self.one_each(&held_out)?])
    }

    fn prepare(&self, prompt: Prompt, tasks: &[Task]) -> Result<Vec<Prepared>> {
        let writing = Writing { words: self.words, end: self.end, prompt };
        Preparation { writing, sentences: &self.run.sentences }.tasks(tasks)
    }

    fn compute<const N: usize>(&self, tasks: [&mut Vec<Prepared>; N]) -> Result<()> {
        let decoder = Unadapted(self.hyper).params()?.unpack()?;
        crate::prepared::compute(&decoder, tasks.into_iter().flatten())
    }

    fn hypernetwork(
        &self,
        vars: &VarMap,
        tasks: &[Prepared],
        measured: &[Prepared],
    ) -> Result<History> {
        let args = &self.run.args;
        let what = Trained {
            name: "hypernetwork",
            steps: self.run.steps(args.steps),
            learning_rate: args.learning_rate,
            vars,
            trained: self.hyper.trainable(),
            tasks,
            measured,
        };
        train(self.run, self.hyper, what)
    }

    /// The model as it is, told the task in a chat. Whatever comes after the answer counts as right.
    fn prompted(&self) -> Result<Way> {
        let mut tasks = self.prepare(Prompt::Chat, &self.run.tasks.held_out)?;
        self.compute([&mut tasks])?;
        let scores = scores(&Unadapted(self.hyper), &tasks, false)?;
        Ok(Way { name: "the model, prompted with the description", scores, history: None })
    }

    /// One LoRA for all training tasks, with the description in the prompt.
    fn shared(&self) -> Result<Way> {
        let mut train = self.prepare(Prompt::Described, &self.run.tasks.train)?;
        let mut held_out = self.prepare(Prompt::Described, &self.run.tasks.held_out)?;
        self.compute([&mut train, &mut held_out])?;
        let (loras, history) = self.loras("one_lora", 1, &train, &held_out)?;
        let scores = scores(&loras, &held_out, true)?;
        Ok(Way { name: "one LoRA, prompted with the description", scores, history: Some(history) })
    }

    /// A LoRA for each held-out task, trained on questions of this task.
    fn one_each(&self, held_out: &[Prepared]) -> Result<Way> {
        let (loras, history) = self.loras("a_lora_each", held_out.len(), held_out, held_out)?;
        let scores = scores(&loras, held_out, true)?;
        Ok(Way { name: "a LoRA trained on the task itself", scores, history: Some(history) })
    }

    fn loras(
        &self,
        name: &str,
        count: usize,
        tasks: &[Prepared],
        measured: &[Prepared],
    ) -> Result<(Loras<'_>, History)> {
        let (args, vars) = (&self.run.args, VarMap::new());
        let vb = seeded::var_builder(&vars, args.run.common.seed, DType::F32, &Device::Cpu);
        let loras = Loras::new(self.hyper, count, &vb)?;
        let what = Trained {
            name,
            steps: self.run.steps(args.lora_steps),
            learning_rate: args.lora_learning_rate,
            vars: &vars,
            trained: vars.all_vars(),
            tasks,
            measured,
        };
        let history = train(self.run, &loras, what)?;
        Ok((loras, history))
    }
}

fn report(run: &Run, hyper: &TextToLora, model: &str, ways: &[Way]) -> Result<()> {
    let rows = ways.iter().map(|way| [way.name.to_owned(), percent(mean(&way.scores))]);
    let rows: Vec<_> = rows.collect();
    let tasks: Vec<_> = run.tasks.held_out.iter().map(Task::name).collect();
    println!(
        "Right answers in {} held-out tasks:\n{}",
        tasks.len(),
        table(["way", "right"], &rows)
    );
    let summary = Summary {
        model,
        tasks,
        training_tasks: run.tasks.train.len(),
        ways,
        num_params: hyper.num_params(),
        num_adapter_values: hyper.num_target_params(),
        options: format!("{:?}", run.args),
    };
    write_json(&run.out.join("summary.json"), &summary)?;
    draw(run, ways)?;
    println!("Pictures, checkpoints and summary.json are in {}.", run.out.display());
    Ok(())
}

fn draw(run: &Run, ways: &[Way]) -> Result<()> {
    let lines = |of: fn(&History) -> &Vec<f64>| {
        let histories =
            ways.iter().filter_map(|way| way.history.as_ref().map(|history| (way.name, history)));
        let line = |(name, history): (&'static str, &'_ History)| {
            let round = history.steps as f64 / history.loss.len().max(1) as f64;
            (name, round, of(history).clone())
        };
        histories.map(line).collect::<Vec<_>>()
    };
    let (loss, right) = (lines(|history| &history.loss), lines(|history| &history.measured));
    let chart = |title, lines: &[(&'static str, f64, Vec<f64>)]| -> Chart<'_> {
        let lines =
            lines.iter().map(|(name, round, values)| Line::by_step(name, *round, values)).collect();
        Chart { title, x: "step", logarithmic: false, lines }
    };
    plot::charts(
        &run.out.join("learning_curves.png"),
        &[chart("training loss", &loss), chart("right answers", &right)],
    )
}
