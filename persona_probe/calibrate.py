"""python -m persona_probe.calibrate: planted worlds, whose right verdict is known, through the real selection
and verdicts."""

from persona_probe.base.command import Call, Command
from persona_probe.experiments.calibration_config import CalibrationOptions


def calibrate(config: CalibrationOptions, call: Call) -> int:
    """Make worlds whose right verdict is known, and count how often selection and verdicts reach it.

    The worlds are residual streams of a base and a tuned model in numpy: no network, and no torch.
    """
    call.reporter.note("persona_probe: loading libraries")
    from persona_probe.base.printing import Sheet, print_json
    from persona_probe.experiments.calibration import calibration, show
    from persona_probe.organisms.world_kinds import KINDS
    from persona_probe.records.files import write_record
    from persona_probe.storage.files import make_folder, need_writable

    if config.output_dir is not None:
        need_writable(config.output_dir)
    with call.reporter.phase("worlds", len(KINDS) * config.worlds) as advance:
        record = calibration(config, command=call.command, advance=advance)
    if config.json:
        print_json("calibration", record.plain())
    else:
        show(Sheet(), record)
    if config.output_dir is not None:
        write_record(make_folder(config.output_dir) / "calibration.json", record)
        call.reporter.note(f"written: calibration.json in {config.output_dir}")
    return 0


COMMAND = Command(calibrate)

if __name__ == "__main__":
    COMMAND.start()
