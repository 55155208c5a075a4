//! What schedulers read: texts that make the runs of a plan file, to be read and changed by whoever submits them.

use std::{fmt::Write, path::Path};

/// Tasks of one array at most where the cluster does not say it (Slurm's own default).
pub const MAX_ARRAY: usize = 1001;

/// The tasks of a plan file.
pub struct Tasks<'a> {
    /// The folder, absolute.
    pub folder: &'a Path,
    /// The program.
    pub program: &'a Path,
    /// Runs in the plan file.
    pub runs: usize,
    /// Runs that one task makes, one after the other.
    pub per_task: usize,
    /// Tasks at the same time at most.
    pub parallel: Option<usize>,
    /// Seconds that a task may take.
    pub seconds: u64,
    /// Tasks of one array at most.
    pub max_array: usize,
}

impl Tasks<'_> {
    fn count(&self) -> usize {
        self.runs.div_ceil(self.per_task)
    }

    fn command(&self) -> String {
        let per_task = match self.per_task {
            1 => String::new(),
            n => format!(" --per-task {n}"),
        };
        format!(
            "{} run-plan --from {}{per_task}",
            quoted(&self.program.to_string_lossy()),
            quoted(&self.folder.join(super::plan_file::NAME).to_string_lossy())
        )
    }

    /// A Slurm batch script. The array's size stands on the command line ([`Tasks::sbatch_lines`]).
    pub fn sbatch(&self) -> String {
        let (hours, minutes) = (self.seconds / 3600, self.seconds % 3600 / 60);
        format!(
            "#!/bin/bash\n\
             # {} runs, {} per task. Account, partition and what else the cluster needs go here or behind sbatch.\n\
             #SBATCH --job-name=peftbench\n\
             #SBATCH --output={}/logs/%A_%a.log\n\
             #SBATCH --open-mode=append\n\
             #SBATCH --requeue\n\
             #SBATCH --signal=B:USR1@120\n\
             #SBATCH --time={hours:02}:{minutes:02}:00\n\
             # A task that is started again makes only what has no record.\n\
             exec {}\n",
            self.runs,
            self.per_task,
            self.folder.display(),
            self.command()
        )
    }

    /// The lines that submit it: one array, or several where the cluster allows no array as large.
    pub fn sbatch_lines(&self, more: &[String]) -> Vec<String> {
        let limit = self.parallel.map_or_else(String::new, |p| format!("%{p}"));
        let more: String = more.iter().fold(String::new(), |mut text, argument| {
            let _ = write!(text, " {}", quoted(argument));
            text
        });
        let script = quoted(&self.folder.join("submit.sbatch").to_string_lossy());
        (0..self.count())
            .step_by(self.max_array.max(1))
            .map(|offset| {
                let last = self.max_array.min(self.count() - offset) - 1;
                let export = match offset {
                    0 => String::new(),
                    n => format!(" --export=ALL,PEFTBENCH_OFFSET={n}"),
                };
                format!("sbatch --array=0-{last}{limit}{export}{more} {script}")
            })
            .collect()
    }

    /// The line that submits it to HyperQueue.
    pub fn hyperqueue(&self) -> String {
        format!(
            "hq submit --array 0-{} --time-limit {}s --crash-limit 5 {}",
            self.count() - 1,
            self.seconds,
            self.command()
        )
    }

    /// A Kubernetes Indexed Job; image and volume are the user's.
    pub fn kubernetes(&self) -> String {
        let count = self.count();
        format!(
            "# Fill in the image that has peftbench, and the volume that holds {folder}.\n\
             apiVersion: batch/v1\n\
             kind: Job\n\
             metadata:\n  name: peftbench\n\
             spec:\n  completionMode: Indexed\n  completions: {count}\n  parallelism: {parallel}\n  backoffLimitPerIndex: 5\n  \
             podFailurePolicy:\n    rules:\n    - action: FailIndex\n      onExitCodes: {{ operator: In, values: [42] }}\n  \
             template:\n    spec:\n      restartPolicy: Never\n      containers:\n      - name: run\n        image: IMAGE\n        \
             command: [sh, -c, {command:?}]\n        volumeMounts:\n        - {{ name: shared, mountPath: {folder:?} }}\n      \
             volumes:\n      - name: shared\n        persistentVolumeClaim: {{ claimName: CLAIM }}\n",
            folder = self.folder.display().to_string(),
            parallel = self.parallel.unwrap_or(count),
            command = format!("exec {}", self.command()),
        )
    }
}

/// The task's index from what schedulers set: Slurm's arrays (and an offset), Kubernetes' indexed jobs, HyperQueue.
///
/// # Errors
/// The variable whose value is no number.
pub fn task_from(variable: impl Fn(&str) -> Option<String>) -> Result<Option<usize>, String> {
    let number = |name: &str| match variable(name) {
        None => Ok(None),
        Some(text) => match text.parse::<usize>() {
            Ok(n) => Ok(Some(n)),
            Err(_) => Err(format!("{name}={text}: a number is needed")),
        },
    };
    let offset = number("PEFTBENCH_OFFSET")?.unwrap_or(0);
    for name in ["SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX", "HQ_TASK_ID"] {
        if let Some(index) = number(name)? {
            return Ok(Some(index.saturating_add(offset)));
        }
    }
    Ok(None)
}

/// A word for the shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=%:,+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks(runs: usize) -> Tasks<'static> {
        Tasks {
            folder: Path::new("/shared/my plan"),
            program: Path::new("/opt/peftbench"),
            runs,
            per_task: 3,
            parallel: Some(20),
            seconds: 5400,
            max_array: 100,
        }
    }

    #[test]
    fn the_script_says_what_a_task_does_and_how_long_it_may_take() {
        let script = tasks(10).sbatch();
        assert!(script.contains("#SBATCH --time=01:30:00\n"), "{script}");
        assert!(script.contains("#SBATCH --requeue\n"), "{script}");
        assert!(
            script.ends_with(
                "exec /opt/peftbench run-plan --from '/shared/my plan/plans.jsonl' --per-task 3\n"
            ),
            "{script}"
        );
    }

    #[test]
    fn an_array_is_cut_where_the_cluster_allows_none_as_large() {
        // 10 runs, 3 per task: 4 tasks.
        assert_eq!(
            tasks(10).sbatch_lines(&["--account=a b".to_owned()]),
            ["sbatch --array=0-3%20 '--account=a b' '/shared/my plan/submit.sbatch'"]
        );
        let lines = tasks(3 * 250).sbatch_lines(&[]);
        assert_eq!(lines.len(), 3);
        assert!(
            lines[1].contains("--array=0-99%20 --export=ALL,PEFTBENCH_OFFSET=100"),
            "{lines:?}"
        );
        assert!(
            lines[2].contains("--array=0-49%20 --export=ALL,PEFTBENCH_OFFSET=200"),
            "{lines:?}"
        );
    }

    #[test]
    fn the_index_comes_from_the_scheduler_that_there_is() {
        let with = |set: &[(&str, &str)]| {
            let set: Vec<(String, String)> = set
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect();
            task_from(move |name| Some(set.iter().find(|(n, _)| n == name)?.1.clone()))
        };
        assert_eq!(with(&[]), Ok(None));
        assert_eq!(
            with(&[("SLURM_ARRAY_TASK_ID", "7"), ("PEFTBENCH_OFFSET", "1000")]),
            Ok(Some(1007))
        );
        assert_eq!(with(&[("JOB_COMPLETION_INDEX", "3")]), Ok(Some(3)));
        assert!(with(&[("HQ_TASK_ID", "x")]).is_err_and(|e| e.contains("HQ_TASK_ID=x")));
    }
}
