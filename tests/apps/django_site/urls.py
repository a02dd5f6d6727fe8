"""The admin, its static files through `FileResponse` (so through wsgi.file_wrapper), a stream and an upload."""

import hashlib

from django.contrib import admin
from django.contrib.staticfiles import finders
from django.http import FileResponse, Http404, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt


def static(request, name):
    found = finders.find(name)
    if found is None:
        raise Http404(name)
    return FileResponse(open(found, "rb"))


def stream(request):
    return StreamingHttpResponse(f"{number}\n" for number in range(int(request.GET["n"])))


@csrf_exempt
def upload(request):
    """Digest and size of an uploaded file, which Django spools to disk."""
    digest, size = hashlib.sha256(), 0
    for chunk in request.FILES["file"].chunks():
        digest.update(chunk)
        size += len(chunk)
    return JsonResponse({"size": size, "sha256": digest.hexdigest()})


urlpatterns = [
    path("admin/", admin.site.urls),
    path("static/<path:name>", static),
    path("stream", stream),
    path("upload", upload),
]
