// As tests/targets/c/threads.c, in Java.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.CountDownLatch;

public class Threads {
    static final CountDownLatch NEVER = new CountDownLatch(1);
    static long own;
    static Site leak = new Site("leakThread");
    static Site quick = new Site("quickThread");

    static class Site {
        final String name;
        int line, live, started, ended;

        Site(String name) {
            this.name = name;
        }

        public String toString() {
            return String.format(
                    "\"%s\":{\"line\":%d,\"live\":%d,\"started\":%d,\"ended\":%d}", name, line, live, started, ended);
        }
    }

    static int here() {
        return new Throwable().getStackTrace()[1].getLineNumber();
    }

    static void parked() {
        try {
            NEVER.await();
        } catch (InterruptedException ended) {
            Thread.currentThread().interrupt();
        }
    }

    static void leakThread() {
        leak.line = here() + 3;
        Thread thread = new Thread(Threads::parked);
        thread.setDaemon(true);
        thread.start();
        leak.started++;
        leak.live++;
    }

    static void quickThread() throws InterruptedException {
        quick.line = here() + 2;
        Thread thread = new Thread(() -> {});
        thread.start();
        thread.join();
        quick.started++;
        quick.ended++;
    }

    static long listed() throws Exception {
        try (var tasks = Files.list(Path.of("/proc/self/task"))) {
            return tasks.count();
        }
    }

    public static void main(String[] args) throws Exception {
        System.out.println("{\"pid\":" + ProcessHandle.current().pid() + "}");
        var in = new BufferedReader(new InputStreamReader(System.in));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] words = line.split(" ");
            int number = words.length > 1 ? Integer.parseInt(words[1]) : 0;
            for (int i = 0; i < number; i++) {
                if (words[0].equals("leak")) {
                    leakThread();
                } else if (words[0].equals("quick")) {
                    quickThread();
                }
            }
            System.out.println("{\"threads\":" + listed() + ",\"sites\":{" + leak + "," + quick + "}}");
        }
    }
}
