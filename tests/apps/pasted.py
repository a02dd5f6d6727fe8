"""An application that PasteDeploy makes."""

import json

from routes import plain


def factory(global_conf, **local_conf):
    """Answers with what it was made of."""

    def app(environ, start_response):
        return plain(start_response, json.dumps([dict(global_conf), local_conf]))

    return app
