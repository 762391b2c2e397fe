-- Each connection asks for one path after the other, each time with a new key; at the end what came, as one line of JSON.
local paths, headers = {}, { ["Content-Type"] = "application/json" }
local turn = 0
local threads = {}

function setup(thread)
  threads[#threads + 1] = thread
end

function init(args)
  for path in io.lines(args[1]) do paths[#paths + 1] = path end
  headers.Authorization, method, body = "Bearer " .. args[2], args[3], args[4]
  began, good, odd = os.time(), 0, 0
end

function request()
  turn = turn + 1
  headers["Idempotency-Key"] = began .. "-" .. turn
  return wrk.format(method, paths[turn % #paths + 1], headers, body)
end

function response(status)
  if status < 300 then
    good = good + 1
  elseif status ~= 503 then
    odd = odd + 1
  end
end

function done(summary, latency, requests)
  local goods, odds = 0, 0
  for _, thread in ipairs(threads) do
    goods, odds = goods + thread:get("good"), odds + thread:get("odd")
  end
  print(string.format('{"good": %d, "odd": %d, "seconds": %f}', goods, odds, summary.duration / 1e6))
end
