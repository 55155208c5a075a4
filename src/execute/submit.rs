//! What schedulers read: texts that make the runs of a plan file, to be read and changed by whoever submits them.

use std::path::Path;

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
        let plans = self.folder.join(super::plan_file::NAME);
        let mut words = vec![
            self.program.to_string_lossy().into_owned(),
            "run-plan".to_owned(),
            "--from".to_owned(),
            plans.to_string_lossy().into_owned(),
        ];
        if self.per_task != 1 {
            words.extend(["--per-task".to_owned(), self.per_task.to_string()]);
        }
        line(&words)
    }

    /// A Slurm batch script. The array's size stands on the command line ([`Tasks::arrays`]); the script's argument is
    /// added to the task's index.
    ///
    /// Slurm queues a task again by itself when its node is lost, and not when it fails; so the script does that.
    pub fn sbatch(&self) -> String {
        format!(
            r#"#!/bin/bash
# {runs} runs, {per_task} per task. Account, partition and what else the cluster needs: here, or behind sbatch.
#SBATCH --job-name=peftbench
#SBATCH --output={logs}/%A_%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --time={time}

# Two minutes before the end of its time, or when it is cancelled, a task ends the run that it makes as interrupted. A task
# that is started again makes only what has no record.
trap 'kill -USR1 $task' USR1
# Slurm sends it to every process of the task.
trap : TERM
{command} --offset "${{1:-0}}" &
task=$!
until wait $task; code=$?; ! kill -0 $task 2>/dev/null; do :; done
# 0: all its runs have a record. 42: no further try can make them. 143: cancelled. Anything else may go better the next
# time, up to five times.
case $code in
0 | 42 | 143) ;;
*)
    if [ "${{SLURM_RESTART_COUNT:-0}}" -lt 5 ]; then
        scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
    fi
    ;;
esac
exit $code
"#,
            runs = self.runs,
            per_task = self.per_task,
            logs = in_directive(&self.folder.join("logs")),
            time = clock(self.seconds),
            command = self.command(),
        )
    }

    /// The arguments of sbatch that submit it: one array, or several where the cluster allows no array as large. `more`
    /// stands before ours, as it was written.
    pub fn arrays(&self, more: &[String]) -> Vec<Vec<String>> {
        let limit = self.parallel.map_or_else(String::new, |p| format!("%{p}"));
        let script = self.folder.join("submit.sbatch");
        (0..self.count())
            .step_by(self.max_array.max(1))
            .map(|offset| {
                let last = self.max_array.min(self.count() - offset) - 1;
                let mut words = more.to_vec();
                words.push(format!("--array=0-{last}{limit}"));
                words.push(script.to_string_lossy().into_owned());
                words.extend((offset > 0).then(|| offset.to_string()));
                words
            })
            .collect()
    }

    /// The line that submits it to HyperQueue.
    pub fn hyperqueue(&self) -> String {
        let logs = self.folder.join("logs/%{JOB_ID}_%{TASK_ID}.log");
        let logs = quoted(&logs.to_string_lossy());
        format!(
            "hq submit --array 0-{} --cpus 1 --pin taskset --time-limit {}s --crash-limit 5 --stdout {logs} --stderr {logs} {}",
            self.count() - 1,
            self.seconds,
            self.command()
        )
    }

    /// A Kubernetes Indexed Job; image and volume are the user's.
    pub fn kubernetes(&self) -> String {
        let count = self.count();
        format!(
            "# Fill in the image that has peftbench, and the volume that holds {folder}, the folder of\n\
             # the records and the cache of backbones and data sets (PEFTBENCH_CACHE, HF_HOME).\n\
             apiVersion: batch/v1\n\
             kind: Job\n\
             metadata:\n  name: peftbench\n\
             spec:\n  completionMode: Indexed\n  completions: {count}\n  parallelism: {parallel}\n  backoffLimitPerIndex: 5\n  \
             podFailurePolicy:\n    rules:\n    - action: FailIndex\n      onExitCodes: {{ operator: In, values: [42] }}\n  \
             template:\n    spec:\n      restartPolicy: Never\n      containers:\n      - name: run\n        image: IMAGE\n        \
             command: [sh, -c, {command:?}]\n        resources: {{ requests: {{ cpu: 1 }}, limits: {{ cpu: 1 }} }}\n        \
             volumeMounts:\n        - {{ name: shared, mountPath: {folder:?} }}\n      \
             volumes:\n      - name: shared\n        persistentVolumeClaim: {{ claimName: CLAIM }}\n",
            folder = self.folder.display().to_string(),
            parallel = self.parallel.unwrap_or(count),
            command = format!("exec {}", self.command()),
        )
    }
}

/// A Slurm batch script of one job that runs this command.
pub fn sbatch_once(
    folder: &Path,
    name: &str,
    seconds: u64,
    exclusive: bool,
    command: &[String],
) -> String {
    let alone = if exclusive {
        "# One node, and nobody else on it.\n#SBATCH --nodes=1\n#SBATCH --exclusive\n"
    } else {
        ""
    };
    format!(
        "#!/bin/bash\n\
         #SBATCH --job-name=peftbench-{name}\n\
         #SBATCH --output={}/%j.log\n\
         #SBATCH --open-mode=append\n\
         #SBATCH --time={}\n\
         {alone}exec {}\n",
        in_directive(&folder.join("logs")),
        clock(seconds),
        line(command)
    )
}

/// Tasks of one array at most, by what `scontrol show config` says.
pub fn max_array(config: &str) -> Option<usize> {
    let value = config
        .lines()
        .find_map(|line| line.strip_prefix("MaxArraySize"));
    value?
        .split('=')
        .nth(1)?
        .trim()
        .parse()
        .ok()
        .filter(|n| *n > 0)
}

/// Cores of a task by the arguments of sbatch; where they say nothing Slurm gives one.
pub fn cores(more: &[String]) -> usize {
    let told = |(i, word): (usize, &String)| {
        let behind = || more.get(i + 1).map(String::as_str);
        let value = match word.as_str() {
            "-c" | "--cpus-per-task" => behind()?,
            word => word
                .strip_prefix("--cpus-per-task=")
                .or_else(|| word.strip_prefix("-c"))?,
        };
        value.parse().ok()
    };
    let last = more.iter().enumerate().rev().find_map(told);
    last.unwrap_or(1).max(1)
}

/// The fewest runs per task with which every task but the last lasts at least this long; all of them where they do not last
/// as long together.
pub fn packed(seconds: &[f64], least: f64) -> usize {
    let long_enough = |n: &usize| {
        seconds
            .chunks_exact(*n)
            .all(|task| task.iter().sum::<f64>() >= least)
    };
    (1..seconds.len())
        .find(long_enough)
        .unwrap_or(seconds.len().max(1))
}

/// Hours, minutes and seconds, as Slurm reads them; whole minutes.
fn clock(seconds: u64) -> String {
    let minutes = seconds.div_ceil(60);
    format!("{:02}:{:02}:00", minutes / 60, minutes % 60)
}

/// A path behind `#SBATCH`, where a word ends at a space as in a shell.
fn in_directive(path: &Path) -> String {
    let text = path.to_string_lossy();
    match text.contains([' ', '\t']) {
        true => format!("\"{text}\""),
        false => text.into_owned(),
    }
}

/// Words as a line for the shell.
pub fn line(words: &[String]) -> String {
    words
        .iter()
        .map(|word| quoted(word))
        .collect::<Vec<_>>()
        .join(" ")
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
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tasks(runs: usize) -> Tasks<'static> {
        Tasks {
            folder: Path::new("/shared/my plan"),
            program: Path::new("/opt/peftbench"),
            runs,
            per_task: 3,
            parallel: Some(20),
            seconds: 5399,
            max_array: 100,
        }
    }

    #[test]
    fn the_scripts_are_those_of_the_fixtures() {
        let ours = [
            ("submit.sbatch", tasks(10).sbatch()),
            ("job.yaml", tasks(10).kubernetes()),
            ("hq.sh", tasks(10).hyperqueue() + "\n"),
            (
                "report.sbatch",
                sbatch_once(
                    Path::new("/shared/plan"),
                    "report",
                    3600,
                    false,
                    &["/opt/peftbench", "report", "--records", "/shared/my out"].map(str::to_owned),
                ),
            ),
        ];
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/submit");
        for (name, text) in ours {
            let path = folder.join(name);
            if std::env::var_os("PEFTBENCH_WRITE_FIXTURES").is_some() {
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(&path, &text).unwrap();
            }
            assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_batch_script_queues_a_failed_task_again_and_no_hopeless_or_cancelled_one() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = place.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        file("scontrol", "#!/bin/sh\necho queued again: \"$@\"\n");
        let program = file("peftbench", "#!/bin/sh\necho \"$@\"\nexit $CODE\n");
        let script = Tasks {
            folder: place.path(),
            program: &program,
            ..tasks(10)
        };
        let script = file("submit.sbatch", &script.sbatch());
        let run = |code: &str, restarts: &str, offset: &[&str]| {
            let path = format!(
                "{}:{}",
                place.path().display(),
                std::env::var("PATH").unwrap()
            );
            let output = std::process::Command::new("bash")
                .arg(&script)
                .args(offset)
                .env("PATH", path)
                .env("CODE", code)
                .env("SLURM_RESTART_COUNT", restarts)
                .env("SLURM_ARRAY_JOB_ID", "7")
                .env("SLURM_ARRAY_TASK_ID", "3")
                .output()
                .unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            assert_eq!(output.status.code().unwrap().to_string(), code, "{said}");
            said
        };
        for code in ["0", "42", "143"] {
            assert!(!run(code, "0", &[]).contains("again"), "{code}");
        }
        for code in ["1", "2", "137", "138"] {
            assert!(
                run(code, "4", &[]).contains("queued again: requeue 7_3"),
                "{code}"
            );
        }
        assert!(!run("1", "5", &[]).contains("again"), "five times at most");
        assert!(run("0", "0", &["200"]).contains("--per-task 3 --offset 200"));
    }

    #[test]
    fn a_kubernetes_job_is_yaml_that_fails_an_index_at_once_only_where_no_try_can_help() {
        let job: serde_yaml::Value = serde_yaml::from_str(&tasks(10).kubernetes()).unwrap();
        let spec = &job["spec"];
        assert_eq!(spec["completions"], 4);
        assert_eq!(
            spec["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"][0],
            42
        );
        let container = &spec["template"]["spec"]["containers"][0];
        assert_eq!(container["volumeMounts"][0]["mountPath"], "/shared/my plan");
    }

    #[test]
    fn an_array_is_cut_where_the_cluster_allows_none_as_large() {
        // 10 runs, 3 per task: 4 tasks.
        let lines = |tasks: Tasks<'_>, more: &[&str]| -> Vec<String> {
            let more: Vec<String> = more.iter().map(|m| (*m).to_owned()).collect();
            tasks
                .arrays(&more)
                .iter()
                .map(|words| line(words))
                .collect()
        };
        assert_eq!(
            lines(tasks(10), &["--account=a b", "-p", "fast"]),
            ["'--account=a b' -p fast --array=0-3%20 '/shared/my plan/submit.sbatch'"]
        );
        assert_eq!(
            lines(tasks(3 * 250), &[]),
            [
                "--array=0-99%20 '/shared/my plan/submit.sbatch'",
                "--array=0-99%20 '/shared/my plan/submit.sbatch' 100",
                "--array=0-49%20 '/shared/my plan/submit.sbatch' 200",
            ]
        );
        assert_eq!(
            max_array("ClusterName = x\nMaxArraySize            = 20001\n"),
            Some(20_001)
        );
        assert_eq!(max_array("slurm_load_ctl_conf error"), None);
    }

    #[test]
    fn the_cores_of_a_task_are_those_that_sbatch_is_asked_for() {
        let of = |words: &[&str]| cores(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&[]), 1);
        assert_eq!(of(&["-p", "fast", "--cpus-per-task=8"]), 8);
        assert_eq!(of(&["--cpus-per-task", "4", "--mem=2G"]), 4);
        assert_eq!(of(&["-c4"]), 4);
        // The last one counts, as for sbatch; what is no number is sbatch's to refuse.
        assert_eq!(of(&["-c", "2", "-c", "16"]), 16);
        assert_eq!(of(&["-c", "many", "--constraint=icelake"]), 1);
    }

    #[test]
    fn runs_are_packed_so_that_every_task_but_the_last_lasts_long_enough() {
        assert_eq!(packed(&[60.0; 100], 900.0), 15);
        assert_eq!(packed(&[901.0; 7], 900.0), 1);
        // Two short ones in a row.
        assert_eq!(
            packed(&[100.0, 800.0, 100.0, 100.0, 800.0, 700.0], 900.0),
            3
        );
        assert_eq!(packed(&[10.0; 4], 900.0), 4);
        assert_eq!(packed(&[], 900.0), 1);
    }
}
