// SPDX-License-Identifier: Apache-2.0
/*
 * The first process of a service that asks for one (`init: true`): it starts the service's command, hands on every signal
 * that it gets, reaps whatever loses its parent, and ends as the command did (with 128 and the signal, if one ended it).
 * `init PROGRAM ARGUMENT...`: PROGRAM is an absolute path. Statically linked, because the image's libraries are not ours.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

/* As shells have it: not found, and found but not to be executed. */
enum { NOT_FOUND = 127, NOT_EXECUTABLE = 126 };

/* Reaps all that has ended; the status to end with once `command` is among it, else -1. */
static int reap(pid_t command) {
  for (;;) {
    int status;
    pid_t pid = waitpid(-1, &status, WNOHANG);
    if (pid < 0 && errno == EINTR) continue;
    if (pid <= 0) return -1;
    if (pid != command) continue;
    if (WIFEXITED(status)) return WEXITSTATUS(status);
    if (WIFSIGNALED(status)) return 128 + WTERMSIG(status);
  }
}

static int start(char **arguments, const sigset_t *signals) {
  /* A group of its own: a command that signals its group does not signal this process. */
  setpgid(0, 0);
  sigprocmask(SIG_SETMASK, signals, NULL);
  execv(arguments[0], arguments);
  int status = errno == ENOENT ? NOT_FOUND : NOT_EXECUTABLE;
  fprintf(stderr, "init: %s: %s\n", arguments[0], strerror(errno));
  return status;
}

int main(int count, char **arguments) {
  if (count < 2) {
    fprintf(stderr, "init: no program is named\n");
    return 2;
  }
  /* Blocked signals are kept for a process that the kernel otherwise spares them (signal(7), pid_namespaces(7)). */
  sigset_t all, before;
  sigfillset(&all);
  /* A fault of its own ends it. */
  for (const int *fault = (const int[]){SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, 0}; *fault != 0; fault++)
    sigdelset(&all, *fault);
  sigprocmask(SIG_SETMASK, &all, &before);
  pid_t command = fork();
  if (command < 0) {
    perror("init: fork");
    return 1;
  }
  if (command == 0) return start(arguments + 1, &before);
  for (;;) {
    int signal = sigwaitinfo(&all, NULL);
    if (signal < 0) continue;
    if (signal != SIGCHLD) {
      kill(command, signal);
      continue;
    }
    int status = reap(command);
    if (status >= 0) return status;
  }
}
