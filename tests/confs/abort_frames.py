"""Where was every thread when the worker was aborted?"""

import sys
import threading
import traceback

timeout = 60


def worker_abort(worker):
    worker.log.info("worker received SIGABRT signal")
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    code = []
    for ident, stack in sys._current_frames().items():
        code.append(f"\n# Thread: {names.get(ident, '')}({ident})")
        for filename, lineno, name, line in traceback.extract_stack(stack):
            code.append(f'File: "{filename}", line {lineno}, in {name}')
            if line:
                code.append(f"  {line.strip()}")
    worker.log.critical("\n".join(code))
