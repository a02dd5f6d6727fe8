"""An access line with most of the atoms, one per field."""

accesslog = "access.log"
access_log_format = (
    "h=%(h)s l=%(l)s u=%(u)s t=%(t)s r=%(r)s m=%(m)s U=%(U)s q=%(q)s H=%(H)s s=%(s)s b=%(b)s B=%(B)s f=%(f)s "
    'a="%(a)s" T=%(T)s M=%(M)s D=%(D)s L=%(L)s p=%(p)s host=%({host}i)s none=%({x-none}i)s '
    "made=%({X-Made}o)s server=%({server}o)s raw=%({raw_uri}e)s odd=%(nothing)s percent=%%"
)
