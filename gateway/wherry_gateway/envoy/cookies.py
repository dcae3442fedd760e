"""A browser's cookies become the headers that the services know.

The names are the user service's: it sets the cookies (`wherry_user.cookies`), and the contracts of both meet in
tests/integration/gateway.
"""

from __future__ import annotations

ACCESS_COOKIE = "__Host-wherry-access"
REFRESH_COOKIE = "__Secure-wherry-refresh"
REFRESH_HEADER = "x-wherry-refresh-token"
COOKIES_HEADER = "x-wherry-cookies"
_SESSIONS = "/wherry.user.v1.SessionService/"

# A token of the caller's own goes before a cookie. No service ever sees a cookie.
_LUA = """\
local function cookie_of(header, name)
  for key, value in string.gmatch(header, "([^=;%%s]+)=([^;%%s]*)") do
    if key == name then return value end
  end
  return nil
end

local function changes(method)
  return method ~= "GET" and method ~= "HEAD" and method ~= "OPTIONS"
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local token = headers:get("authorization")
  if token == nil then
    -- The CSRF filter compares hosts alone; a page that came over HTTP may be anybody's.
    local origin = headers:get("origin") or headers:get("referer")
    if origin ~= nil and string.sub(origin, 1, 8) ~= "https://" and changes(headers:get(":method")) then
      handle:respond({[":status"] = "403"}, "")
      return
    end
  else
    -- A scheme may be written in any letters; the filter behind this one knows one way.
    local rest = string.match(token, "^[Bb][Ee][Aa][Rr][Ee][Rr] +(.*)$")
    if rest ~= nil and string.sub(token, 1, 7) ~= "Bearer " then
      headers:replace("authorization", "Bearer " .. rest)
    end
  end
  local cookies = headers:get("cookie")
  if cookies == nil then return end
  headers:remove("cookie")
  if token == nil then
    local access = cookie_of(cookies, "%(access)s")
    if access ~= nil and access ~= "" then
      headers:replace("authorization", "Bearer " .. access)
      headers:replace("%(cookies_header)s", "1")
    end
    -- One service alone may see it, whoever sends it where.
    local refresh = cookie_of(cookies, "%(refresh)s")
    if refresh ~= nil and refresh ~= "" and string.find(headers:get(":path"), "%(sessions)s", 1, true) == 1 then
      headers:replace("%(refresh_header)s", refresh)
    end
  end
end
"""


def lua() -> str:
    """Returns the script."""
    return _LUA % {
        "access": ACCESS_COOKIE,
        "refresh": REFRESH_COOKIE,
        "refresh_header": REFRESH_HEADER,
        "cookies_header": COOKIES_HEADER,
        "sessions": _SESSIONS,
    }
