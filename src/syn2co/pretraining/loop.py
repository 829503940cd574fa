"""The training loop: optimizer steps of micro-batches; whatever else a run does after a step is an observer's."""

from contextlib import nullcontext

from syn2co.pretraining.run import Run, StepReport, TrainingState, training_step
from syn2co.runtime.optimizer import clip_gradient


def train(run: Run, state: TrainingState) -> None:
    """Take the steps from `state.step` to the end of the run, or until an observer stops it early.

    Raises:
        TrainingError: on all ranks, if a loss or gradient is not finite or most negatives are masked. The optimizer
            step was not taken then; the state is not to be saved, since the target and the queues may have moved.
        StreamEnded: on all ranks, before a step, if one of them has a signal or no images for it.
    """
    while state.step < run.total_steps and not state.stopped_early:
        batches = run.stream.next_step(run.micro_batches)  # before anything changes: until then the state can be saved
        now = run.schedules.at(state.step)
        state.model.update_target(now.momentum)  # before its forward pass, once per optimizer step (MoBY)
        for number, batch in enumerate(batches):
            position = run.position(state.step, number)
            last = number == run.micro_batches - 1
            # DDP averages gradients over ranks once a step: after the last micro-batch's backward pass.
            with nullcontext() if last or state.online is state.model.online else state.online.no_sync():  # type: ignore[operator]
                output = training_step(state.model, state.online, batch, position, negatives=now.negatives)
                (output.loss / run.micro_batches).backward()
            if last:  # clipped after the average over ranks, so by one norm on all of them
                output.measured["gradient_norm"] = clip_gradient(state.model.online, run.clip)
            measured = run.average_and_check(output.measured, batch, position)  # on all ranks, before the queues change
            state.enqueue(output.keys, batch.groups)
            state.averages.add(measured)
        state.optimizer_step(now.lr)
        for observer in run.observers:
            observer(state, StepReport(now, batch, output))
