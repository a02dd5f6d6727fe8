"""A Tornado application for its worker class."""

import os
import time

from tornado.web import Application, RequestHandler


class Pid(RequestHandler):
    """Says which process answers."""

    def get(self):
        self.write(str(os.getpid()))


class Echo(RequestHandler):
    """Gives the body back."""

    async def post(self):
        self.write(self.request.body)
        await self.flush()


class Block(RequestHandler):
    """Holds the loop up for longer than the time-out."""

    def get(self):
        time.sleep(60)


app = Application([("/pid", Pid), ("/echo", Echo), ("/block", Block)])
