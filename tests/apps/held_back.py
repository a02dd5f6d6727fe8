"""Requests whose greenlets are suspended before they begin, as a trace function of greenlets can do it."""

import weakref

import gevent
import greenlet
from coop import app, mark
from routes import parameter

to_hold = []
held = {}
known = weakref.WeakSet()


def hold_back(_event, greenlets):
    """Suspend the next greenlet that is switched to for the first time, under the name that waits for it."""
    target = greenlets[1]
    if isinstance(target, gevent.Greenlet) and target not in known:
        known.add(target)
        if to_hold:
            name = to_hold.pop()
            held[name] = target
            mark(f"held-{name}")
            gevent.get_hub().switch()


greenlet.settrace(hold_back)


@app.text("/hold-next")
def hold_next(environ):
    """?name=: the request that arrives next does not begin before `/let`."""
    to_hold.append(parameter(environ, "name"))
    return "ok"


@app.text("/let")
def let(environ):
    """?name=&how=: begin, or end before the beginning: by gevent's kill, or by an exception of greenlet's."""
    target = held[parameter(environ, "name")]
    how = parameter(environ, "how")
    if how == "begin":
        gevent.get_hub().loop.run_callback(target.switch)
    elif how == "kill":
        target.kill(block=False)
    else:
        gevent.get_hub().loop.run_callback(target.throw)
    return "ok"


@app.text("/name")
def name(environ):
    """?name=: the name, if the greenlet that runs is the one that was held back under it."""
    wanted = parameter(environ, "name")
    assert held[wanted] is gevent.getcurrent()
    return wanted
